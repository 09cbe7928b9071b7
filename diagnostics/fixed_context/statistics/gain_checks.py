"""What a gain file's numbers must be before they are analysed. Axes: N tokens."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from ..frame_columns import numbers
from ..schema import KEY
from .bootstrap import Floats

_SUFFIX = re.compile(r"_k[0-9]+$")
_UNIT = (0.0, 1.0)
RANGES = {
    **dict.fromkeys(("Hs", "Ht", "KLf", "KLr", "KLf_union", "KLr_union"), (0.0, np.inf)),
    "JSD": (0.0, np.log(2)),
    **dict.fromkeys(("Cmass_exact", "Cmass_topk", "Coverlap", "Cjaccard", "CBC", "overlap_mass"), _UNIT),
    **dict.fromkeys(("student_topk_mass", "teacher_topk_mass", "reach_t1", "pos_norm"), _UNIT),
}
"""What a score can be; nats where it is an entropy or a divergence. Also of base_NAME and NAME_k8."""
_ROUNDING = 0.02
"""Of bf16 log-probs from a server, whose probabilities add up to a little more than 1."""

TOLERANCE = 1e-4
"""Nats, and share of the larger divergence, by which a gain may miss the fall that it is: the file's own rounding."""


def check_ranges(frame: pl.DataFrame, where: str) -> None:
    """Raises ValueError, naming column and value, where a score of RANGES is what no score can be. An infinite entropy
    or divergence is a number that is not known."""
    for column in frame.columns:
        low, high = RANGES.get(_SUFFIX.sub("", column.removeprefix("base_")), (None, None))
        if low is None:
            continue
        values = numbers(frame, column, where)
        wrong = values[(values < low - _ROUNDING) | (values > high + _ROUNDING)]
        if len(wrong):
            shown = "0 or more" if high == np.inf else f"in 0..{high:.4g}"
            raise ValueError(
                f"{where}: column {column} is {wrong[0]:.6g} at the first of {len(wrong):,} tokens; it must be {shown}"
            )


def check_gains_known(frame: pl.DataFrame, gain: str, values: Floats, where: str) -> None:
    """Raises ValueError where G_NAME is not known, or infinite, though base_NAME and NAME are. values: float64 [N]."""
    measure = gain.removeprefix("G_")
    names = [f"base_{measure}", measure]
    if measure == gain or not set(names) <= set(frame.columns):
        return
    known = np.logical_and.reduce([np.isfinite(numbers(frame, name, where)) for name in names])
    if lost := int((known & ~np.isfinite(values)).sum()):
        raise ValueError(f"{where}: {gain} is no number at {lost:,} tokens of which {' and '.join(names)} are known")


def divergences(frame: pl.DataFrame, gain: str, values: Floats, where: str) -> tuple[Floats | None, Floats | None]:
    """float64 [N] each: the divergence before and after whose fall G_NAME is, None for one that the file lacks.

    gain: the column's name; values: float64 [N], its finite values. Raises ValueError, naming the column and how many
    tokens, where a divergence is not known or the gain is not its fall.
    """
    measure = gain.removeprefix("G_")
    names = [name for name in (f"base_{measure}", measure) if measure != gain and name in frame.columns]
    found = {name: numbers(frame, name, where) for name in names}
    for name, divergence in found.items():
        if unknown := int((~np.isfinite(divergence)).sum()):
            raise ValueError(
                f"{where}: column {name} has no number at {unknown:,} of {len(frame):,} tokens with {gain}"
            )
    before, after = found.get(f"base_{measure}"), found.get(measure)
    if before is not None and after is not None:
        fall = before - after
        allowed = TOLERANCE * (1 + np.maximum(np.abs(before), np.abs(after)))
        wrong = np.flatnonzero(np.abs(values - fall) > allowed)
        if len(wrong):
            first = int(wrong[0])
            token = ", ".join(str(frame[name][first]) for name in KEY if name in frame.columns) or f"row {first}"
            raise ValueError(
                f"{where}: {gain} is not base_{measure} - {measure} at {len(wrong):,} of {len(frame):,} tokens, first "
                f"({token}): {values[first]:.6g} and {fall[first]:.6g}"
            )
    return before, after


def notes_of_left_out(counts: dict[str, int]) -> tuple[str, ...]:
    """A note for each column without which tokens that count are left out: without_NAME of counts."""
    unmasked = counts["rows"] - counts["masked"]
    return tuple(
        f"{count:,} of {unmasked:,} tokens are left out: no number in {key.removeprefix('without_')}"
        for key, count in counts.items()
        if key.startswith("without_")
    )


def unknown_at_ks(
    disagreement: dict[int, Floats], support: dict[tuple[str, int], Floats], topk: int
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Counts and notes of the Ks other than topk at which D or C is not known everywhere; a K at which no token has
    both is taken out of `disagreement`."""
    counts, notes = {}, []
    for k in [k for k in disagreement if k != topk]:
        unknown = ~np.isfinite(disagreement[k]) | ~np.isfinite(support.get(("mass", k), 0.0))
        if not unknown.any():
            continue
        counts[f"unknown_at_k{k}"] = int(unknown.sum())
        said = f"K = {k}: D or C is not known at {int(unknown.sum()):,} of {len(unknown):,} tokens"
        if unknown.all():
            del disagreement[k]
            notes.append(f"{said}, so there is nothing of this K")
        else:
            notes.append(f"{said}, which its numbers leave out")
    return counts, tuple(notes)
