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
        self._begun = self._printed = time.monotonic()
        self._first: tuple[int, float] | None = None

    def advance(self, note: str = "") -> None:
        self._done += 1
        if self._bar:
            progress, task = self._bar
            progress.update(task, completed=self._done, note=note)
            return
        now = time.monotonic()
        if self._done == self._total:
            self._print(f"done in {now - self._begun:.0f} s")
        elif self._first is None:
            # The time before the first step is start-up, which says nothing of the steps to come.
            self._first = self._done, now
        elif now - self._printed > _SECONDS_BETWEEN_LINES:
            done, since = self._first
            self._print(f"{(now - since) / (self._done - done) * (self._total - self._done):.0f} s left  {note}")
            self._printed = now

    def _print(self, text: str) -> None:
        self._console.print(f"{self._name}: {self._done}/{self._total}, {text}".rstrip(), highlight=False)


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
