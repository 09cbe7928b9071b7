"""The list of runs: `method:ratio` entries, each with every seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ta_opd import find_selector

DEFAULT_METHODS = (
    "pure_opd:1.0 teachability:0.10 entropy:0.10 teachability_entropy:0.10 teachability_entropy_split:0.10 tip:0.10 "
    "tip_paper:0.10 q3:0.10 q3_highc:0.10 divergence:0.10 compatibility:0.10 random:0.10"
)


@dataclass(frozen=True)
class Method:
    """A selector under its canonical name, its mask name, and a retention ratio."""

    name: str
    mask: str
    ratio: float

    @property
    def label(self) -> str:
        """teachability:0.10; at least two decimals, as many as the ratio has."""
        text = f"{self.ratio:.2f}"
        return f"{self.name}:{text if float(text) == self.ratio else repr(self.ratio)}"


@dataclass(frozen=True)
class Run:
    method: Method
    seed: int

    @property
    def identity(self) -> dict[str, Any]:
        """The fields by which every record of a run names it."""
        method = self.method
        return {
            "label": method.label,
            "method": method.name,
            "mask": method.mask,
            "ratio": method.ratio,
            "seed": self.seed,
        }

    @property
    def directory(self) -> str:
        return f"{self.method.label.replace(':', '-')}-seed{self.seed}"


def parse_methods(text: str) -> list[Method]:
    """Entries `method[:ratio[:index]]`, separated by spaces or commas.

    pure_opd's ratio is always 1; another's is 0.10 unless given. The index, a port offset of the cluster launchers,
    is accepted and has no meaning here. Raises ValueError, naming METHODS and what is allowed, on no entry, an
    unknown method, a ratio outside (0, 1], or a repeated entry.
    """
    methods: list[Method] = []
    for entry in re.split(r"[\s,]+", text.strip()):
        if not entry:
            continue
        name, *rest = entry.split(":")
        if len(rest) > 2:
            raise ValueError(f"METHODS entry {entry!r} is not method:ratio or method:ratio:index")
        selector = _selector(entry, name)
        if len(rest) == 2 and not re.fullmatch(r"[0-9]+", rest[1]):
            raise ValueError(f"METHODS entry {entry!r}: the index {rest[1]!r} is not a whole number")
        ratio = _ratio(entry, rest[0]) if rest else 0.1
        ratio = 1.0 if selector.mask == "full" else ratio
        method = Method(selector.name, selector.mask, ratio)
        if method in methods:
            raise ValueError(f"METHODS names {method.label} twice ({entry!r} is the second)")
        methods.append(method)
    if not methods:
        raise ValueError('METHODS is empty; give entries like "teachability:0.10 random:0.10"')
    return methods


def _selector(entry: str, name: str):
    try:
        return find_selector(name)
    except ValueError as error:
        raise ValueError(f"METHODS entry {entry!r}: {str(error).removeprefix('--opd-budget-mask: ')}") from error


def _ratio(entry: str, text: str) -> float:
    try:
        ratio = float(text)
    except ValueError as error:
        raise ValueError(f"METHODS entry {entry!r}: the ratio {text!r} is not a number in (0, 1]") from error
    if not 0 < ratio <= 1:
        raise ValueError(f"METHODS entry {entry!r}: the ratio {text} is outside (0, 1]")
    return ratio


def parse_seeds(text: str) -> list[int]:
    """Whole numbers from 0, separated by spaces or commas. Raises ValueError naming SEEDS."""
    parts = [part for part in re.split(r"[\s,]+", text.strip()) if part]
    if not parts or not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise ValueError(f'SEEDS {text!r} is not a list of whole numbers 0..999999999, like "0 1 2"')
    seeds = [int(part) for part in parts]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"SEEDS {text!r} names a seed twice")
    return seeds


def all_runs(methods: Sequence[Method], seeds: Sequence[int]) -> list[Run]:
    return [Run(method, seed) for seed in seeds for method in methods]
