"""The benchmarks by our names, and which task of the harness each is."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

ANY_TASK = "harness:"


@dataclass(frozen=True)
class Benchmark:
    """harness_task: its name in lm_eval. limit: how many of its problems are asked, None for all."""

    name: str
    harness_task: str
    limit: int | None = None


HARNESS_TASKS = {
    "gsm8k": "gsm8k",  # the whole test split, 5-shot
    "math_hard": "leaderboard_math_hard",  # level 5 of the MATH test split, seven subjects, 4-shot
    "aime": "aime24",  # 30 problems, zero-shot
    "aime25": "aime25",
}
CAPPED = ("aime", "aime25")  # long generations


def parse_benchmarks(text: str, limit: int | None, aime_limit: int) -> list[Benchmark]:
    """Comma- or space-separated names of HARNESS_TASKS, or harness:TASK for any other task of the harness.

    Raises:
        ValueError: no name, an unknown one (the nearest is named), one given twice, or a limit below 1.
    """
    for flag, value in (("--limit", limit), ("--aime-limit", aime_limit)):
        if value is not None and value < 1:
            raise ValueError(f"{flag} {value}: must be at least 1")
    names = text.replace(",", " ").split()
    if not names:
        raise ValueError(f"--tasks is empty: choose from {', '.join(HARNESS_TASKS)}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"--tasks names {', '.join(twice)} twice")
    caps = {name: aime_limit if limit is None else min(limit, aime_limit) for name in CAPPED}
    return [Benchmark(name, _harness_task(name), caps.get(name, limit)) for name in names]


def _harness_task(name: str) -> str:
    if name.startswith(ANY_TASK):
        task = name.removeprefix(ANY_TASK)
        if not task:
            raise ValueError(f"--tasks {name}: the harness's name of the task is missing")
        return task
    if name not in HARNESS_TASKS:
        near = difflib.get_close_matches(name, HARNESS_TASKS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(HARNESS_TASKS)}"
        raise ValueError(f"--tasks {name}: unknown; {hint} (any other task of the harness: {ANY_TASK}NAME)")
    return HARNESS_TASKS[name]
