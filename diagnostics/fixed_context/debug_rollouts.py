"""Samples from slime's --save-debug-rollout-data dumps, without running any code that a dump may carry.

A dump is torch.save of {"rollout_id": ..., "samples": [Sample.to_dict(), ...]}. Beside plain values it can hold
anything a rollout put on a sample: arrays, images, classes of slime or of a person's own.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .context_bank import Sample
from .sample_tables import matching_files

_CUT_SHORT = ("truncated", "aborted")


class _Inert:
    """Stands in for a class or function that a dump names: takes what it is given, does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def read_debug_rollouts(pattern: str) -> Iterator[Sample]:
    """Samples of every dump that the glob matches, rollouts in order. Raises ValueError, naming the file, where there
    is none or one cannot be read."""
    for path in sorted(matching_files("--debug-rollout-data", pattern), key=_by_number):
        for place, value in enumerate(_load(path)):
            yield _sample(value, path, place)


def _load(path: Path) -> list[dict[str, Any]]:
    """torch.load with weights_only, which builds tensors and plain values; every other name in the file is inert."""
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_stand_in(name), name) for name in foreign]):
            dump = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, OSError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(f"{path}: not a whole debug rollout dump ({reason[:200]})") from error
    samples = dump.get("samples") if isinstance(dump, dict) else None
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise ValueError(f"{path}: no list of samples under 'samples'; is it a --save-debug-rollout-data dump?")
    return samples


def _stand_in(name: str) -> type:
    return type(name.rpartition(".")[2], (_Inert,), {})


def _sample(value: dict[str, Any], path: Path, place: int) -> Sample:
    missing = [name for name in ("tokens", "response_length") if name not in value]
    if missing:
        raise ValueError(f"{path}: sample {place} has no {', '.join(missing)}")
    tokens, length = _ints(value["tokens"]), int(value["response_length"])
    if not 0 <= length <= len(tokens):
        raise ValueError(f"{path}: sample {place} has response_length {length} of {len(tokens)} tokens")
    mask = value.get("loss_mask")
    if value.get("remove_sample"):
        mask = [0] * length
    end = len(tokens) - length
    prompt, response = value.get("prompt"), value.get("response")
    return Sample(
        tokens[:end],
        tokens[end:],
        str(path),
        None if mask is None else _ints(mask),
        prompt if isinstance(prompt, str) and prompt else None,
        response if isinstance(response, str) else None,
        value.get("index"),
        value.get("group_index"),
        value.get("status") in _CUT_SHORT,
    )


def _ints(values: Any) -> list[int]:
    return [int(value) for value in (values.tolist() if isinstance(values, torch.Tensor) else values)]


def _by_number(path: Path) -> tuple[list[int], str]:
    """2.pt before 10.pt."""
    return [int(part) for part in re.findall(r"\d+", path.name)], str(path)
