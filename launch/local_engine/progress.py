"""One progress bar per phase with the time left; plain lines where the output is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 5.0


class Phase:
    """A phase's bar: call advance() after each finished step."""

    def __init__(self, console: Console, name: str, total: int, done: int, bar: tuple[Progress, int] | None):
        self._console, self._name, self._total, self._done, self._bar = console, name, total, done, bar
        self._started = self._printed = time.monotonic()
        self._first = done

    def advance(self, note: str = "") -> None:
        self._done += 1
        if self._bar:
            progress, task = self._bar
            progress.update(task, completed=self._done, note=note)
        elif self._done == self._total or time.monotonic() - self._printed > _SECONDS_BETWEEN_LINES:
            self._printed = time.monotonic()
            spent = self._printed - self._started
            left = spent / (self._done - self._first) * (self._total - self._done)
            end = f"done in {spent:.0f} s" if self._done == self._total else f"{left:.0f} s left"
            self._console.print(f"{self._name}: {self._done}/{self._total}, {end}  {note}".rstrip(), highlight=False)


@contextmanager
def phase(console: Console, name: str, total: int, done: int = 0) -> Iterator[Phase]:
    """A bar of `total` steps of which `done` were finished by an earlier run."""
    if not console.is_terminal:
        yield Phase(console, name, total, done, None)
        return
    columns = (
        TextColumn("{task.description:<38}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=total, completed=done, note="")
        yield Phase(console, name, total, done, (progress, task))
