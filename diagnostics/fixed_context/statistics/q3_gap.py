"""Q3 (low entropy, high disagreement): does the gain differ between high and low support?

High and low are the outer parts of Q3 by support c (quantiles --low-c-quantile, --high-c-quantile within Q3). The gap
is given as it is (bootstrap) and between tokens alike in the controls (matched, and that with regression adjustment).
KL before is among the controls: tokens with high and low support that had as far to go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bootstrap import Clusters, Estimate, absent
from .gain import Floats, GainTable
from .matching import CALIPER, Match, adjusted_difference, balance, matched_difference, nearest_neighbours
from .settings import DEFAULTS, Settings
from .unit_scores import UnitScores

METHODS = ("bootstrap", "matched", "matched_adjusted")
LEAST_TOKENS = 2


@dataclass(frozen=True)
class Q3Gap:
    """Mean gain of high-support less that of low-support tokens of Q3, by METHODS; balance: see matching.balance.

    high, low: the groups' own means. q3_tokens: tokens in Q3; groups' sizes are in `high` and `low`.
    """

    gaps: dict[str, Estimate]
    high: Estimate
    low: Estimate
    balance: list[dict]
    match: Match | None
    q3_tokens: int
    tokens: int
    note: str = ""


def support_groups(scores: UnitScores, support: Floats, settings: Settings) -> tuple[NDArray, NDArray] | str:
    """bool [N] twice: Q3 tokens of high and of low raw support; or why there are none."""
    inside = scores.in_q3 & np.isfinite(support)
    if not inside.any():
        return scores.no_q3 or "no token of Q3 has a known support"
    low, high = np.quantile(support[inside], [settings.low_c_quantile, settings.high_c_quantile])
    if not low < high:
        return f"support is the same ({low:.4g}) at both quantiles within Q3: no high and low groups"
    groups = inside & (support >= high), inside & (support <= low)
    if min(int(group.sum()) for group in groups) < LEAST_TOKENS:
        return f"Q3 has {int(inside.sum())} tokens: too few for two groups"
    return groups


def matching_controls(table: GainTable, scores: UnitScores) -> dict[str, Floats]:
    controls = {
        "entropy": scores.h,
        "disagreement": scores.d,
        "position": table.position,
        "teacher_entropy": table.teacher_entropy,
    }
    if table.before is not None:
        controls["kl_before"] = np.log(np.maximum(table.before, 0) + 1e-3)
    return controls


def q3_gap(
    table: GainTable,
    scores: UnitScores,
    support: Floats,
    gain: Floats,
    clusters: Clusters,
    settings: Settings = DEFAULTS,
    caliper: float = CALIPER,
) -> Q3Gap:
    """The three gaps. support: [N], raw. gain: [N]. A group that is empty is a row without numbers that says so."""
    groups, in_q3 = support_groups(scores, support, settings), int(scores.in_q3.sum())
    if not isinstance(groups, str) and np.ptp(gain) == 0:
        groups = f"all gains are equal ({gain[0]:g})"
    if isinstance(groups, str):
        nothing = absent(groups, in_q3, clusters.count)
        return Q3Gap(dict.fromkeys(METHODS, nothing), nothing, nothing, [], None, in_q3, len(table), groups)
    high, low = groups
    controls = matching_controls(table, scores)
    match = nearest_neighbours(controls, high, low, caliper)
    gaps = (
        clusters.difference(gain, high, low),
        matched_difference(match, gain, clusters),
        adjusted_difference(match, gain, controls, clusters),
    )
    return Q3Gap(
        dict(zip(METHODS, gaps, strict=True)),
        clusters.mean(gain, high),
        clusters.mean(gain, low),
        balance(match, controls),
        match,
        in_q3,
        len(table),
    )
