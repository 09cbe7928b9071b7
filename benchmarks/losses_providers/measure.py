"""Time and memory of the forward and backward of a loss."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .check import weighted_sum
from .problem import FORWARD_ONLY, Problem
from .provider import Provider

HEAP_GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Environment in which glibc returns freed tensors to the system at once: a heap that keeps them hides a peak."""


class Times(NamedTuple):
    """Seconds; p10, median and p90."""

    wall: tuple[float, float, float]
    user: tuple[float, float, float]


class Peak(NamedTuple):
    """Bytes beyond the inputs: of forward and backward with the gradient, of the forward alone without one."""

    both: int
    forward: int


def step(provider: Provider, problem: Problem) -> Callable[[], None]:
    """One forward and backward, or the forward alone of a loss that is only evaluated."""
    function, logits = provider.losses[problem.loss], problem.student
    backward = problem.loss not in FORWARD_ONLY

    def run() -> None:
        logits.requires_grad_(backward)
        logits.grad = None
        with torch.set_grad_enabled(backward):
            outputs = function(problem)
            if backward:
                weighted_sum(provider, problem, outputs).backward()

    return run


def forward_step(provider: Provider, problem: Problem) -> Callable[[], None]:
    """The forward without gradient."""

    def run() -> None:
        problem.student.grad = None
        problem.student.requires_grad_(False)
        with torch.no_grad():
            provider.losses[problem.loss](problem)

    return run


def warm_up_seconds(run: Callable[[], None], device: str) -> float:
    """Of the first call, with its compilation and autotuning."""
    started = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def interleaved(runs: list[Callable[[], None]], repeats: int, device: str) -> list[Times]:
    """Each run's times over repeats rounds, in which every run has one turn."""
    timed = _cuda_seconds if device == "cuda" else _cpu_seconds
    seconds = np.empty((2, len(runs), repeats))
    gc.collect()
    for i in range(repeats):
        for j, run in enumerate(runs):
            seconds[:, j, i] = timed(run)
    wall, user = np.percentile(seconds, (10, 50, 90), axis=-1).transpose(1, 2, 0).tolist()
    return [Times(tuple(w), tuple(u)) for w, u in zip(wall, user, strict=True)]


def _user_seconds() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def _cpu_seconds(run: Callable[[], None]) -> tuple[float, float]:
    user, started = _user_seconds(), time.perf_counter()
    run()
    return time.perf_counter() - started, _user_seconds() - user


def _cuda_seconds(run: Callable[[], None]) -> tuple[float, float]:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    user = _user_seconds()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000, _user_seconds() - user


def peak(provider: Provider, problem: Problem, device: str) -> Peak | None:
    """After a warm-up. On a CPU best alone in a process with HEAP_GIVES_BACK; None where the system does not tell."""
    forward, both = forward_step(provider, problem), step(provider, problem)
    measured, growth = cuda_growth if device == "cuda" else resident_growth, []
    for run in (both, forward):
        run()
        problem.student.grad = None
        growth.append(measured(run))
        problem.student.grad = None
    return None if None in growth else Peak(*growth)


def cuda_growth(run: Callable[[], None]) -> int:
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def resident_growth(run: Callable[[], None]) -> int | None:
    """Greatest resident memory during the run over that before it; Linux alone resets the mark."""
    if not sys.platform.startswith("linux"):
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status_bytes("VmRSS")
    run()
    return _status_bytes("VmHWM") - before


def _status_bytes(kind: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))


def copy_bandwidth(repeats: int = 20) -> float:
    """Bytes a second, read and written, of a device-to-device copy of 2 GiB."""
    source = torch.empty(2**30, dtype=torch.bfloat16, device="cuda").normal_()
    target = torch.empty_like(source)
    times = interleaved([lambda: target.copy_(source)], repeats, "cuda")
    return 2 * source.numel() * source.element_size() / times[0].wall[1]
