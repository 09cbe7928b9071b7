"""The output directory: one run at a time, one set of settings, every file whole or absent."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ta_opd.files import atomic_path, write_json, write_text

SETTINGS, LOCK = "settings.json", ".lock"


@contextmanager
def open_store(path: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """The directory, created if need be and locked until the block ends; the lock goes with the process.

    Raises ValueError, before anything is written, when the directory cannot be made or written, is in use by another
    run, holds other files, or was made with other settings (the differing ones are named).
    """
    made, settings = path / SETTINGS, json.loads(json.dumps(settings))
    try:
        if path.exists() and not path.is_dir():
            raise ValueError(f"OUT {path} is a file; give a directory")
        foreign = path.is_dir() and not made.exists() and any(not _ours(entry) for entry in path.iterdir())
        if foreign:
            raise ValueError(f"OUT {path} holds other files and no {SETTINGS}; give an empty or a new directory")
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ValueError(f"OUT {path} cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"OUT {path} is in use by another run; wait for it or give another directory") from error
        _settle(path, made, settings)
        yield path
    finally:
        os.close(handle)


def _ours(entry: Path) -> bool:
    """What a run killed at its very start leaves behind."""
    return entry.name == LOCK or (entry.name.startswith(f".{SETTINGS}.") and entry.name.endswith(".tmp"))


def _settle(path: Path, made: Path, settings: dict[str, Any]) -> None:
    try:
        if not made.exists():
            write_json(made, settings)
            return
        found = json.loads(made.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"OUT {path} cannot be written: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"OUT {path}: {SETTINGS} is not JSON ({error}); give another directory") from error
    _refuse_other_settings(path, _flat(found), _flat(settings))


def _refuse_other_settings(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = [key for key in sorted(found.keys() | wanted.keys()) if found.get(key) != wanted.get(key)]
    if differing:
        shown = "; ".join(f"{key} {found.get(key)!r} there, {wanted.get(key)!r} here" for key in differing[:4])
        more = f"; and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise ValueError(f"OUT {path} was made with other settings ({shown}{more}); give another directory")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{key}" if prefix else key)
    return flat


def save_state(path: Path, state: Any) -> None:
    """torch.save, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path, device: str = "cpu") -> Any | None:
    """What save_state wrote (tensors and plain values only), or None."""
    return torch.load(path, map_location=device, weights_only=True) if path.exists() else None


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> None:
    """Replace the file by these records, one a line."""
    write_text(path, "".join(_line(record) for record in records))


def append_jsonl(path: Path, record: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as handle:
        handle.write(_line(record))


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
