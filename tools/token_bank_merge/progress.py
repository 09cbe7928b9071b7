"""A bar with the time left: only on a terminal, and only for work that has taken five seconds."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

SECONDS_BEFORE = 5.0


class LateProgress:
    """A context manager; advance() counts towards `total`, in any unit."""

    def __init__(self, name: str, total: float, console: Console | None = None):
        self._name, self._total, self._console = name, total, console or Console(stderr=True)
        self._begun, self._done, self._bar = time.monotonic(), 0.0, None

    def __enter__(self) -> LateProgress:
        return self

    def advance(self, amount: float) -> None:
        self._done += amount
        if self._bar is None:
            if not self._console.is_terminal or time.monotonic() - self._begun < SECONDS_BEFORE:
                return
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("left"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
            self._task = self._bar.add_task(self._name, total=self._total)
            self._bar.start()
        self._bar.update(self._task, completed=self._done)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
