"""The benchmark's records: every provider of a loss checked, timed in turn with the others, and its memory measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from .check import check
from .measure import HEAP_GIVES_BACK, Peak, interleaved, peak, step, warm_up_seconds
from .problem import Problem, make_problem
from .provider import Provider

CHECK_ROWS = 32
SCRIPT = Path(__file__).parents[1] / "losses.py"
NUMBERS = (
    "seconds",
    "seconds_p10",
    "seconds_p90",
    "user_seconds",
    "user_seconds_p10",
    "user_seconds_p90",
    "again_seconds",
    "again_user_seconds",
    "warm_up_seconds",
    "peak_over_input",
    "forward_peak_over_input",
    "max_relative_error",
    "gradient_error",
    "near_relative_error",
    "near_gradient_error",
    "floor_fraction",
    "copy_bandwidth",
)
"""Of a record; None where not measured. again_*: ours, timed a second time. near_*: errors in nearly converged rows
alone. copy_bandwidth: bytes a second. floor_fraction: how long memory needs at that bandwidth to read what must be read
and to write the gradient, over the time taken; on CUDA alone."""
OUT_OF_MEMORY = "out of memory"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Settings:
    """Rows and columns of logits, their dtype, where and how often. Raises ValueError on a value out of range."""

    device: str = "cpu"
    tokens: int = 128
    vocab: int = 151_936
    dtype: str = "bfloat16"
    top_k: int = 64
    keep_ratio: float = 1.0
    repeats: int = 5
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("tokens", 1), ("vocab", 2), ("repeats", 1), ("threads", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} {getattr(self, name)} must be at least {least}")
        if not 1 <= self.top_k < self.vocab:
            raise ValueError(f"--top-k {self.top_k} is outside 1..{self.vocab - 1}, below --vocab")
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(f"--keep-ratio {self.keep_ratio} is outside 0..1 (0 excluded)")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("--device cuda: torch sees no CUDA device")

    @property
    def flags(self) -> list[str]:
        return [part for name, value in asdict(self).items() for part in (f"--{name.replace('_', '-')}", str(value))]

    def problem(self, loss: str, tokens: int, seed: int) -> Problem:
        return make_problem(
            loss,
            tokens,
            self.vocab,
            getattr(torch, self.dtype),
            self.device,
            top_k=self.top_k,
            keep_ratio=self.keep_ratio,
            seed=seed,
        )


def loss_records(
    settings: Settings, loss: str, providers: list[Provider], bandwidth: float | None, *, memory: bool = True
) -> list[dict[str, Any]]:
    """The records of one loss. A provider that is wrong or runs out of memory has the reason as its `error`."""
    providers = [provider for provider in providers if loss in provider.losses]
    records = {provider.name: _empty_record(settings, loss, provider, bandwidth) for provider in providers}
    for seed, provider in enumerate(providers, settings.seed + 1):
        _guarded(records[provider.name], _record_errors, settings, loss, provider, seed, records[provider.name])
    problem = settings.problem(loss, settings.tokens, settings.seed)
    for provider in providers:
        record = records[provider.name]
        run = step(provider, problem)
        record["warm_up_seconds"] = _guarded(record, warm_up_seconds, run, settings.device)
    _record_times(records, providers, problem, settings)
    if memory:
        for provider in providers:
            record = records[provider.name]
            growth = _guarded(record, _peak, settings, provider, problem)
            if growth is not None:
                record["peak_over_input"] = round(growth.both / problem.logits_bytes, 4)
                record["forward_peak_over_input"] = round(growth.forward / problem.logits_bytes, 4)
    problem.student.grad = None
    return list(records.values())


def peak_alone(settings: Settings, loss: str, provider: Provider) -> str:
    """What a process for one provider's memory prints: the peak in bytes, or null."""
    growth = peak(provider, settings.problem(loss, settings.tokens, settings.seed), settings.device)
    return json.dumps(growth)


def _empty_record(settings: Settings, loss: str, provider: Provider, bandwidth: float | None) -> dict[str, Any]:
    return {
        "loss": loss,
        "provider": provider.name,
        **dict.fromkeys(NUMBERS),
        "copy_bandwidth": bandwidth,
        "error": None,
        "reduction": "mean" if provider.mean else "per_token",
        **asdict(settings),
    }


def _guarded(record: dict[str, Any], function: Callable[..., Result], *arguments: Any) -> Result | None:
    """The function's result; None if the record has an error already, or gets one as memory runs out."""
    if record["error"]:
        return None
    try:
        return function(*arguments)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "can't allocate memory" not in str(error):
            raise
    record["error"] = OUT_OF_MEMORY
    return None


def _record_errors(settings: Settings, loss: str, provider: Provider, seed: int, record: dict[str, Any]) -> None:
    problem = settings.problem(loss, CHECK_ROWS, seed)
    errors = check(provider, problem)
    record["max_relative_error"], record["gradient_error"] = _number(errors.value), _number(errors.gradient)
    record["near_relative_error"] = _number(errors.near_value)
    record["near_gradient_error"] = _number(errors.near_gradient)
    record["error"] = errors.complaint(provider, problem.student.dtype)


def _number(value: float | None) -> float | None:
    return float(f"{value:.4g}") if value is not None and value == value else None


def _record_times(
    records: dict[str, dict[str, Any]], providers: list[Provider], problem: Problem, settings: Settings
) -> None:
    ready = [provider for provider in providers if not records[provider.name]["error"]]
    again = [provider for provider in ready if provider.name.startswith("ours")]
    runs = [step(provider, problem) for provider in ready + again]
    times = interleaved(runs, settings.repeats, settings.device)
    for provider, time in zip(ready, times, strict=False):
        record = records[provider.name]
        for kind, values in zip(("", "user_"), time, strict=True):
            for place, value in zip(("_p10", "", "_p90"), values, strict=True):
                record[f"{kind}seconds{place}"] = round(value, 7)
        if record["copy_bandwidth"]:
            floor = problem.passes() * problem.logits_bytes / record["copy_bandwidth"]
            record["floor_fraction"] = round(floor / time.wall[1], 4)
    for provider, time in zip(again, times[len(ready) :], strict=True):
        _, records[provider.name]["again_seconds"], _ = time.wall
        _, records[provider.name]["again_user_seconds"], _ = time.user


def _peak(settings: Settings, provider: Provider, problem: Problem) -> Peak | None:
    if settings.device == "cuda":
        return peak(provider, problem, settings.device)
    command = [sys.executable, str(SCRIPT), *settings.flags, "--memory-alone"]
    command += ["--losses", problem.loss, "--providers", provider.name]
    done = subprocess.run(
        command, env={**os.environ, **HEAP_GIVES_BACK}, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode < 0:  # killed by the system
        raise MemoryError
    done.check_returncode()
    growth = json.loads(done.stdout)
    return None if growth is None else Peak(*growth)
