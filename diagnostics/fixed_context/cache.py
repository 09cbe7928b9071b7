"""What a teacher said of a bank, kept by content: its final hidden states at response positions and its head.

From the two its logits are made again as they were, at a hundredth of their size, so that a second checkpoint of the
student does not run the teacher again. A directory of a cache is named by all that its numbers depend on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from ta_opd.files import atomic_path, write_json
from torch import Tensor

from .models import Head

_IDENTITY, _LOCK, _HEAD = "identity.json", ".lock", "head.safetensors"


def cache_key(identity: Mapping[str, Any]) -> str:
    """16 hex digits of what the numbers depend on."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def locked_directory(path: Path, identity: Mapping[str, Any], what: str) -> Iterator[Path]:
    """path, made if need be and locked until the block ends; the lock goes with the process. A run that has it already
    is waited for. Raises ValueError where it cannot be written or holds something else."""
    identity = json.loads(json.dumps(identity))
    try:
        handle = _lock(path)
    except OSError as error:
        raise ValueError(f"{path}: {what} cannot be written ({error.strerror})") from error
    try:
        described = path / _IDENTITY
        if not described.exists():
            write_json(described, identity)
        elif json.loads(described.read_text(encoding="utf-8")) != identity:
            raise ValueError(f"{path}: {what} belongs to something else; remove it")
        yield path
    finally:
        os.close(handle)


def _lock(path: Path) -> int:
    """The handle of a lock on a directory that is there: a run that was waited for may have removed its own."""
    while True:
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if (path / _LOCK).exists() and os.fstat(handle).st_ino == (path / _LOCK).stat().st_ino:
            return handle
        os.close(handle)


@dataclass(frozen=True)
class ShardFiles:
    """One file of tensors for each shard, whole or absent."""

    directory: Path
    prefix: str

    def path(self, number: int) -> Path:
        return self.directory / f"{self.prefix}_{number:06d}.safetensors"

    def missing(self, count: int) -> list[int]:
        """Those of `count` shards that are not there yet, in order."""
        return [number for number in range(count) if not self.path(number).exists()]

    def write(self, number: int, tensors: Mapping[str, Tensor]) -> None:
        _save(self.path(number), tensors)

    def read(self, number: int, device: str | torch.device = "cpu") -> dict[str, Tensor]:
        return _load(self.path(number), device)


def write_head(directory: Path, head: Head) -> None:
    tensors = {"weight": head.weight} | ({} if head.bias is None else {"bias": head.bias})
    _save(directory / _HEAD, tensors, {"scale": repr(head.scale), "softcap": repr(head.softcap)})


def has_head(directory: Path) -> bool:
    return (directory / _HEAD).exists()


def read_head(directory: Path, device: str | torch.device) -> Head:
    path = directory / _HEAD
    tensors = _load(path, device)
    with safetensors.safe_open(path, "pt") as handle:
        told = handle.metadata()
    softcap = None if told["softcap"] == "None" else float(told["softcap"])
    return Head(tensors["weight"], tensors.get("bias"), float(told["scale"]), softcap)


def _save(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    with atomic_path(path) as temporary:
        whole = {name: values.contiguous().cpu() for name, values in tensors.items()}
        safetensors.torch.save_file(whole, temporary, metadata=metadata)


def _load(path: Path, device: str | torch.device) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a whole file of the teacher cache ({error}); remove it") from error
