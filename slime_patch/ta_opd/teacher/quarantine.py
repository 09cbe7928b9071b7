"""Teacher requests that failed: a JSON line each, and a few lines in the log."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

_LOGGED_EVERY = 100

logger = logging.getLogger(__name__)


class Quarantine:
    """path: the JSONL file, or None to write none; its directory is made. Lines of several processes do not mix."""

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path)
        self._seen: Counter[str] = Counter()
        self._broken = False
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, reason: str, **about: Any) -> None:
        """Append a line; warn of the first of each reason and of every hundredth."""
        self._seen[reason] += 1
        if self._seen[reason] == 1 or self._seen[reason] % _LOGGED_EVERY == 0:
            logger.warning("no teacher signal (%s, %d so far): %s", reason, self._seen[reason], about)
        if self.path is not None and not self._broken:
            line = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "reason": reason, **about}
            try:
                _append(self.path, json.dumps(line, ensure_ascii=False).encode() + b"\n")
            except OSError as error:
                # The note is not worth the run; the count and the log keep it.
                self._broken = True
                logger.warning("no more lines go to %s: %s", self.path, error)


def _append(path: Path, line: bytes) -> None:
    # One write to a file opened for appending: the system puts it behind what others wrote.
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        written = os.write(handle, line)
    finally:
        os.close(handle)
    if written != len(line):
        raise OSError(f"{path}: only {written} of {len(line)} bytes could be written")
