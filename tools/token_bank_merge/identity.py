"""What a run is called in the merged table, and which rollouts are there twice."""

from __future__ import annotations

import filecmp
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .inputs import Rollout


def run_names(banks: Iterable[Path]) -> dict[Path, str]:
    """A name for each bank: its run's directory, with as many parents as tell runs of the same name apart."""
    runs = {bank: (bank.parent if bank.name == "token_bank" else bank).parts for bank in banks}
    names, depth = {}, 1
    left = set(runs)
    while left:
        wanted = defaultdict(list)
        for bank in left:
            wanted["/".join(runs[bank][-depth:]).lstrip("/")].append(bank)
        alone = {group[0]: name for name, group in wanted.items() if len(group) == 1 or depth > len(runs[group[0]])}
        names |= alone
        left -= set(alone)
        depth += 1
    return names


def refuse_twice(rollouts: Sequence[Rollout], settings: Mapping[Path, Mapping[str, Any] | None]) -> None:
    """Raises ValueError where a rollout is there twice, naming both files.

    It is when one bank has it in two formats, when two files are the same to the byte, and when two banks are of runs
    of the same name with the same settings (by bank; None where not known): a run and its copy, or its resumption.
    """
    by_id = defaultdict(list)
    for rollout in rollouts:
        by_id[rollout.rollout_id].append(rollout)
    for same in by_id.values():
        for one, other in itertools.combinations(same, 2):
            if why := _same(one, other, settings):
                raise ValueError(f"rollout {one.rollout_id} is there twice, {why}: {one.path} and {other.path}")


def _same(one: Rollout, other: Rollout, settings: Mapping[Path, Mapping[str, Any] | None]) -> str:
    if one.bank == other.bank:
        return "in two formats"
    named_alike = _run_directory(one.bank) == _run_directory(other.bank)
    if named_alike and settings[one.bank] is not None and settings[one.bank] == settings[other.bank]:
        return "in two runs of one name and the same settings (rename one of the directories if they are two runs)"
    sizes = one.path.stat().st_size, other.path.stat().st_size
    if sizes[0] == sizes[1] > 0 and filecmp.cmp(one.path, other.path, shallow=False):
        return "the same to the byte"
    return ""


def _run_directory(bank: Path) -> str:
    return bank.parent.name if bank.name == "token_bank" else bank.name
