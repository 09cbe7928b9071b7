"""A file that cannot be merged, and why."""

from __future__ import annotations

from pathlib import Path


class Broken(Exception):
    """path: the file. reason: one line."""

    def __init__(self, path: Path, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, " ".join(reason.split())

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"
