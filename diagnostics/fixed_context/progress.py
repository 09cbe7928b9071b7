"""One progress bar a phase with the time left; plain lines, seldom, where the output is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 5.0


class Phase:
    """Call advance(amount) after each finished piece."""

    def __init__(self, console: Console, name: str, total: int, done: int, bar: tuple[Progress, int] | None) -> None:
        self._console, self._name, self._total, self._bar = console, name, total, bar
        self._first = self._done = done
        self._begun = self._printed = time.monotonic()

    def advance(self, amount: int) -> None:
        self._done += amount
        if self._bar:
            progress, task = self._bar
            progress.update(task, completed=self._done)
            return
        now = time.monotonic()
        if now - self._printed > _SECONDS_BETWEEN_LINES and self._done < self._total:
            left = (now - self._begun) / (self._done - self._first) * (self._total - self._done)
            line = f"{self._name}: {self._done:,}/{self._total:,}, {left:.0f} s left"
            self._console.print(line, highlight=False, soft_wrap=True)
            self._printed = now


@contextmanager
def phase(console: Console, name: str, total: int, done: int = 0) -> Iterator[Phase]:
    """A bar of `total` pieces of which `done` were finished by an earlier run."""
    if not console.is_terminal:
        yield Phase(console, name, total, done, None)
        return
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield Phase(console, name, total, done, (progress, progress.add_task(name, total=total, completed=done)))
