"""Findings as text, line by line as they come."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from .result import FAIL, PASS, SKIPPED, STATUSES, WARN, Result

_COLOURS = {PASS: "32", WARN: "33", FAIL: "31", SKIPPED: "2"}
_STATUS_WIDTH, _CHECK_WIDTH = 7, 22
_INDENT = " " * (2 + _STATUS_WIDTH + 2 + _CHECK_WIDTH + 2)


def row(result: Result, width: int, colour: bool) -> str:
    """status, check and what was found; below it the fix, where there is one."""
    status = f"{result.status:{_STATUS_WIDTH}}"
    if colour:
        status = f"\x1b[{_COLOURS[result.status]}m{status}\x1b[0m"
    lines = _wrapped(result.found, width)
    if result.fix:
        lines += _wrapped(f"fix: {result.fix}", width)
    first = f"  {status}  {result.check:{_CHECK_WIDTH}}  {lines[0]}"
    return "\n".join([first, *(_INDENT + line for line in lines[1:])])


def summary(results: Sequence[Result], seconds: float) -> str:
    """How many of each status there are."""
    counts = Counter(result.status for result in results)
    told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    return f"{told or 'nothing was checked'}; {seconds:.1f} s"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(40, width - len(_INDENT)), break_long_words=False, break_on_hyphens=False) or [""]
