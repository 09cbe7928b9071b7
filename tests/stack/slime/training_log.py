"""What slime's training loop printed: its metrics, one dictionary for each line that logs some."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

# "... - rollout 0: {'rollout/log_probs': -6.2, ...}"; slime prints `step`, `perf`, `eval` and `passrate` lines alike.
LINE = re.compile(r" (rollout|step|perf|eval|passrate) (\d+): (\{.*\})\s*$")
NUMBER = re.compile(r"\b(nan|inf)\b")
NO_ANSI = re.compile(r"\x1b\[[0-9;]*m")

Metrics = dict[str, float]


def parse(text: str) -> dict[str, dict[int, Metrics]]:
    """kind -> number of the rollout or step -> metrics, merged where a number is logged in several lines."""
    found: dict[str, dict[int, Metrics]] = defaultdict(lambda: defaultdict(dict))
    for line in text.splitlines():
        match = LINE.search(NO_ANSI.sub("", line))
        if match:
            kind, number, values = match.groups()
            found[kind][int(number)].update(literal(values))
    return {kind: dict(numbers) for kind, numbers in found.items()}


def literal(values: str) -> Metrics:
    """A printed dictionary of numbers, nan and inf among them."""
    quoted = NUMBER.sub(r"'\1'", values)
    return {name: float(value) for name, value in ast.literal_eval(quoted).items() if not isinstance(value, dict)}
