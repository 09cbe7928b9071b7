"""From what a person names (files, directories, globs) to the rollout files of token banks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from glob import has_magic
from pathlib import Path

from .broken import Broken

BANKS = ("token_bank", "runs/*/token_bank", "engine/runs/*/token_bank")
"""Where a directory that is no bank itself may have some: a run, a suite, a suite of the embedded engine."""
_ROLLOUT = re.compile(r"rollout_(\d{6,})\.(parquet|csv|jsonl)")
_LEFT_OVER = re.compile(r"\.(rollout_\d{6,}\.(?:parquet|csv|jsonl))\..*\.tmp")


@dataclass(frozen=True, order=True)
class Rollout:
    """One rollout's table. bank: its directory; both paths are absolute, symbolic links resolved."""

    bank: Path
    rollout_id: int
    path: Path

    @property
    def form(self) -> str:
        """parquet, csv or jsonl."""
        return self.path.suffix[1:]


@dataclass
class Found:
    """rollouts: sorted, each once. banks: those named as a whole. broken: what cannot be merged. notes: what is odd and
    does no harm."""

    rollouts: list[Rollout] = field(default_factory=list)
    banks: set[Path] = field(default_factory=set)
    broken: list[Broken] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_rollouts(inputs: Sequence[str]) -> Found:
    """Raises ValueError for an input that is not there or leads to no token bank."""
    found, files = Found(), set()
    for path in _expanded(inputs):
        if path.is_dir():
            candidates = (path, *(bank for pattern in BANKS for bank in path.glob(pattern)))
            inside = {bank.resolve() for bank in candidates if is_bank(bank)}
            if not inside:
                raise ValueError(
                    f"{path}: no token bank (rollout_NNNNNN.parquet, .csv or .jsonl) here or in {', '.join(BANKS)}"
                )
            found.banks |= inside
        else:
            files.add(path.resolve())
    for bank in sorted(found.banks):
        files |= _rollouts_of(bank, found)
    for path in sorted(files):
        match = _ROLLOUT.fullmatch(path.name)
        if match:
            found.rollouts.append(Rollout(path.parent, int(match[1]), path))
        else:
            found.broken.append(Broken(path, "the name is not rollout_NNNNNN with .parquet, .csv or .jsonl"))
    found.rollouts.sort()
    return found


def _expanded(inputs: Iterable[str]) -> Iterator[Path]:
    for text in inputs:
        if Path(text).exists():
            yield Path(text)
            continue
        if not has_magic(text):
            raise ValueError(f"{text}: no such file or directory")
        anchor = Path(text).anchor
        matches = sorted(Path(anchor).glob(str(Path(text).relative_to(anchor))))
        if not matches:
            raise ValueError(f"{text}: nothing matches")
        yield from matches


def is_bank(directory: Path) -> bool:
    return directory.is_dir() and any(
        entry.name.startswith(("rollout_", ".rollout_")) and entry.is_file() for entry in directory.iterdir()
    )


def _rollouts_of(bank: Path, found: Found) -> set[Path]:
    """The rollout files of one bank; a file that a killed writer left is broken where its rollout is missing."""
    names = {entry.name for entry in bank.iterdir()}
    for name in sorted(names):
        left_over = _LEFT_OVER.fullmatch(name)
        if left_over and left_over[1] in names:
            found.notes.append(f"{bank / name}: left by a killed writer; {left_over[1]} is there, so nothing is lost")
        elif left_over:
            found.broken.append(Broken(bank / name, f"left by a killed writer; there is no {left_over[1]}"))
    return {bank / name for name in names if name.startswith("rollout_")}
