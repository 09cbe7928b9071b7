"""Whether OUTPUT_ROOT can be written, and has room for what the runs will write."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .model_files import weight_bytes
from .result import Result, failed, passed, skipped, warned
from .settings import Settings

TOKEN_BANK_BYTES = 108.7
"""A response token in the token bank at K = 16, measured: docs/benchmarks.md, The reward post-process."""
CHECKPOINT_BYTES = 14
"""A parameter in a Megatron checkpoint: 2 of bf16 weights, 4 of float32 ones, 8 of Adam's two moments."""
WEIGHT_BYTES = 2
"""A parameter in STUDENT_HF, taken to be 16 bits."""
_SPARE = 1.2
_PROBE_BYTES = 2**20


def check_disk(settings: Settings) -> Iterator[Result]:
    root = Path(settings.text("OUTPUT_ROOT")).expanduser()
    there = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    yield _writable(root, there)
    yield _room(settings, there)


def _writable(root: Path, there: Path) -> Result:
    """Writes a file into the nearest directory that exists, and removes it."""
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".doctor-") as file:
            file.write(b"\0" * _PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return failed("output", f"{there} cannot be written: {error.strerror}", "choose another OUTPUT_ROOT")
    return passed("output", f"{there} can be written" + ("" if there == root.absolute() else f"; {root} will be made"))


def _room(settings: Settings, there: Path) -> Result:
    free, rollouts = shutil.disk_usage(there).free, settings.number("NUM_ROLLOUT")
    # Merging writes the table of a run once more.
    bank = (
        2 * TOKEN_BANK_BYTES * settings.response_tokens * rollouts * max(1, settings.number("OPD_TOPK_METRICS_K") / 16)
    )
    student = settings.model("STUDENT_HF")
    weights = weight_bytes(student) if student else None
    if settings.local_engine:
        return skipped("disk", f"{free / 2**30:,.1f} GiB free; BACKEND=local writes little", "nothing to do")
    if weights is None:
        return skipped(
            "disk", f"{free / 2**30:,.1f} GiB free; no weights in STUDENT_HF to reckon with", "set STUDENT_HF"
        )
    saves = math.ceil(rollouts / settings.number("SAVE_INTERVAL"))
    checkpoints = saves * weights / WEIGHT_BYTES * CHECKPOINT_BYTES
    need = settings.runs * (bank + checkpoints)
    student_size = f"{weights / WEIGHT_BYTES / 1e9:.2f} billion parameters"
    found = (
        f"{free / 2**30:,.1f} GiB free of about {need / 2**30:,.1f} for {settings.runs} run(s), each {saves} saves "
        f"of {student_size} at {CHECKPOINT_BYTES} bytes and {bank / 2**30:.2f} GiB of token bank"
    )
    fix = "free space, raise SAVE_INTERVAL, or choose another OUTPUT_ROOT"
    if free < need:
        # A container's health is looked at while its own run fills the disk.
        answer_with = warned if settings.static else failed
        return answer_with("disk", found, fix, free_bytes=free, needed_bytes=need)
    if free < _SPARE * need:
        return warned("disk", found, fix, free_bytes=free, needed_bytes=need)
    return passed("disk", found, free_bytes=free, needed_bytes=need)
