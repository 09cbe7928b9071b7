"""One finding of the doctor."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

PASS, WARN, FAIL, SKIPPED = "pass", "warn", "fail", "skipped"
STATUSES = (PASS, WARN, FAIL, SKIPPED)
FINE, FAILS, WRONG_USAGE = 0, 1, 2
"""Exit codes."""


@dataclass(frozen=True)
class Result:
    """check: what was looked at. found: what was seen; for a skipped check why. fix: what to do, empty only for a pass.
    numbers: what was measured, by name, for --json."""

    check: str
    status: str
    found: str
    fix: str = ""
    numbers: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.status in STATUSES, self.status
        assert self.status == PASS or self.fix, f"{self.check}: a finding without a fix"

    def at(self, where: str) -> Result:
        """The same finding, said of one of several servers."""
        return replace(self, found=where + self.found)

    def as_json(self, group: str) -> dict[str, Any]:
        """JSON has no infinity: such a number is null."""
        numbers = {name: value if math.isfinite(value) else None for name, value in self.numbers.items()}
        return {"group": group, **asdict(self), "numbers": numbers}


def passed(check: str, found: str, **numbers: float) -> Result:
    return Result(check, PASS, found, numbers=numbers)


def warned(check: str, found: str, fix: str, **numbers: float) -> Result:
    return Result(check, WARN, found, fix, numbers)


def failed(check: str, found: str, fix: str, **numbers: float) -> Result:
    return Result(check, FAIL, found, fix, numbers)


def skipped(check: str, why: str, fix: str) -> Result:
    return Result(check, SKIPPED, why, fix)


def exit_code(results: Iterable[Result], strict: bool) -> int:
    """FAILS where something fails, or with `strict` where something warns; skipped checks never do."""
    bad = (FAIL, WARN) if strict else (FAIL,)
    return FAILS if any(result.status in bad for result in results) else FINE
