"""The scores that the analyses compare, on [0, 1] over the tokens of a table (TA-OPD, eq 11). Axes: N tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ta_opd.selection import normalise

from .gain import Floats, GainTable, quantile
from .settings import DEFAULTS, Settings

_MOST_TIED = 0.1
"""How far the share of tokens on one side of a split may be from its quantile."""


@dataclass(frozen=True)
class UnitScores:
    """Scores on [0, 1], float64 [N], over the tokens of the table (eq 11): h, d, c, learnable = d c, incompatible =
    d (1 - c); in_q3: bool [N], low entropy and high disagreement. constant: names of raw scores without spread. no_q3:
    why no token is in Q3, empty where there are some."""

    h: Floats
    d: Floats
    c: Floats
    learnable: Floats
    incompatible: Floats
    in_q3: NDArray[np.bool_]
    constant: tuple[str, ...]
    no_q3: str = ""


def unit_scores(
    table: GainTable,
    settings: Settings = DEFAULTS,
    k: int | None = None,
    definition: str = "mass",
    disagreement: Floats | None = None,
) -> UnitScores:
    """Normalised scores at one K and definition of support. disagreement: [N] in place of D, such as an independent
    measure. Raises ValueError where the table has no such K or definition."""
    k = table.topk if k is None else k
    if disagreement is None and k not in table.disagreement:
        raise ValueError(f"{table.name}: no column of D at K = {k}; there: {', '.join(map(str, table.ks))}")
    if (definition, k) not in table.support:
        raise ValueError(f"{table.name}: no column of support {definition} at K = {k}")
    d_raw = table.disagreement[k] if disagreement is None else disagreement
    raw = {"H": table.entropy, "D": d_raw, "C": table.support[definition, k]}
    units = {
        n: normalise(v.astype(np.float32), None, "batch_quantile", settings.q_low, settings.q_high)
        for n, v in raw.items()
    }
    h, d, c = (units[n].values.astype(np.float64) for n in "HDC")
    in_q3, tied = table.in_q3, ""
    if in_q3 is None:
        tied = _tied(h, d, settings)
        in_q3 = low_entropy(h, settings) & high_disagreement(d, settings) & (not tied)
    no_q3 = "" if in_q3.any() else tied or "Q3 is empty: no token of low entropy and high disagreement"
    return UnitScores(h, d, c, d * c, d * (1 - c), in_q3, tuple(n for n in "HDC" if units[n].degenerate), no_q3)


def low_entropy(h: Floats, settings: Settings) -> NDArray[np.bool_]:
    return h < quantile(h, settings.h_quantile)


def high_disagreement(d: Floats, settings: Settings) -> NDArray[np.bool_]:
    return d >= quantile(d, settings.d_quantile)


def _tied(h: Floats, d: Floats, settings: Settings) -> str:
    """Why there are no quadrants: so many tokens have H or D at its quantile that the split is far from its share."""
    shares = (
        ("H", "below", low_entropy(h, settings)[np.isfinite(h)], settings.h_quantile),
        ("D", "at or above", high_disagreement(d, settings)[np.isfinite(d)], 1 - settings.d_quantile),
    )
    for name, side, split, wanted in shares:
        share = split.mean() if len(split) else wanted
        if abs(share - wanted) > max(_MOST_TIED, 1 / len(h)):
            told = f"{share:.0%} of tokens lie {side} its split, not {wanted:.0%}"
            return f"no Q3: {name} has so many equal values that {told}"
    return ""
