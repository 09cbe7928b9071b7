"""Nearest-neighbour matching of two groups of tokens on controls, with what remains of their imbalance.

Each treated token gets the nearest control token, with replacement, in the space of the standardised controls, and is
dropped where none lies within the caliper. The estimate is the effect on the treated that found a partner. Its interval
is a prompt-cluster bootstrap with the matches held: a control that was used several times carries its weight with its
own prompt. What the controls do not hold stays confounded. Axes: N tokens, P controls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .bootstrap import Clusters, Estimate, Floats, absent

LEAST_MATCHED = 30
"""Treated tokens with a partner without which there is no number."""
CALIPER = 0.25
"""Standard deviations that matched tokens may lie apart in each control, in the root mean square."""


@dataclass(frozen=True)
class Match:
    """weight: float64 [N], how often a token counts (treated 0 or 1, controls 0, 1, 2, ...). treated, control: bool
    [N], the groups. matched: treated tokens with a partner. distance: float64 [matched], standard deviations."""

    weight: Floats
    treated: NDArray[np.bool_]
    control: NDArray[np.bool_]
    distance: Floats

    @property
    def matched(self) -> int:
        return len(self.distance)

    @property
    def share(self) -> str:
        return f"{self.matched:,} of {int(self.treated.sum()):,} high-support tokens have a partner within the caliper"


def nearest_neighbours(
    controls: dict[str, Floats], treated: NDArray[np.bool_], control: NDArray[np.bool_], caliper: float = CALIPER
) -> Match:
    """Match every treated token on the controls (name -> [N]), each divided by its sd over both groups.

    Ties go to the token that comes first. caliper: in standard deviations a control, so sqrt(P) times it in the
    space of all P. Raises ValueError unless it is above 0.
    """
    if not caliper > 0:
        raise ValueError(f"--caliper {caliper} must be above 0")
    weight = np.zeros(len(treated))
    rows, pool = np.flatnonzero(treated), np.flatnonzero(control)
    if not len(rows) or not len(pool):
        return Match(weight, treated, control, np.empty(0))
    space = np.stack([_scaled(values, treated | control) for values in controls.values()], axis=1)
    points, first = np.unique(space[pool], axis=0, return_index=True)
    distance, nearest = cKDTree(points).query(space[rows])
    distance = distance / np.sqrt(space.shape[1])
    found = distance <= caliper
    weight[rows[found]] = 1.0
    np.add.at(weight, pool[first[nearest[found]]], 1.0)
    return Match(weight, treated, control, distance[found])


def _scaled(values: Floats, inside: NDArray[np.bool_]) -> Floats:
    sd = values[inside].std()
    return values / sd if sd > 0 else np.zeros_like(values)


def matched_difference(match: Match, values: Floats, clusters: Clusters) -> Estimate:
    """Mean of values [N] over matched treated tokens less that over their partners."""
    if match.matched < LEAST_MATCHED:
        return _too_few_matched(match)
    found = clusters.difference(values, match.weight * match.treated, match.weight * match.control)
    return _with_share(found, match)


def _too_few_matched(match: Match) -> Estimate:
    note = f"{match.share}, fewer than {LEAST_MATCHED}: the groups are not alike enough to compare"
    return absent(note, int(np.count_nonzero(match.weight)))


def _with_share(found: Estimate, match: Match) -> Estimate:
    """Says whom the number is of, where that is not most of them."""
    if 2 * match.matched >= match.treated.sum():
        return found
    return replace(found, note="; ".join(filter(None, (found.note, f"only {match.share}"))))


def adjusted_difference(match: Match, values: Floats, controls: dict[str, Floats], clusters: Clusters) -> Estimate:
    """The same, less what the controls' remaining imbalance explains linearly (weighted regression on the matches)."""
    from .regression import solve_each

    if match.matched < LEAST_MATCHED:
        return _too_few_matched(match)
    used = match.weight > 0
    columns = [np.ones(len(values)), match.treated.astype(np.float64)]
    columns += [_centred(v, used) for v in controls.values() if np.ptp(v[used]) > 0]
    x = np.where(used[:, None], np.stack(columns, axis=1), 0.0)
    xx = clusters.grams(x * match.weight[:, None], x)
    xy = clusters.grams(x * match.weight[:, None], np.where(used, values, 0.0)[:, None])
    whole = solve_each(xx.sum(0)[None], xy.sum(0)[None])[0, 1, 0]
    if not np.isfinite(whole):
        return absent("collinear controls among the matched tokens", int(used.sum()))
    prompts = int(np.count_nonzero(clusters.sums(match.weight)))
    replicates = solve_each(clusters.draws(xx), clusters.draws(xy))[:, 1, 0]
    found = clusters.estimate(float(whole), replicates, int(used.sum()), prompts)
    return absent(found.note, found.tokens, found.prompts) if found.low is None else _with_share(found, match)


def _centred(values: Floats, used: NDArray[np.bool_]) -> Floats:
    return (values - values[used].mean()) / values[used].std()


def balance(match: Match, controls: dict[str, Floats]) -> list[dict[str, float | str | int | None]]:
    """A row a control: its mean in both groups and the standardised mean difference, before and after matching.

    Both differences are divided by the root of the mean of the two groups' variances before matching; below 0.1 is
    usually called balanced. tokens_*: tokens in each group; partners_effective: (sum w)^2 / sum w^2 of the partners.
    """
    a, b, w = match.treated, match.control, match.weight
    partners = w[b]
    effective = float(partners.sum() ** 2 / (partners**2).sum()) if partners.any() else 0.0
    rows = []
    for name, values in controls.items():
        both = a.any() and b.any()
        spread = float(np.sqrt((values[a].var() + values[b].var()) / 2)) if both else 0.0
        means = [float(values[side].mean()) if side.any() else None for side in (a, b)]
        after = [float(np.average(values[side], weights=w[side])) if w[side].any() else None for side in (a, b)]
        rows.append(
            {
                "control": name,
                "mean_treated": means[0],
                "mean_control": means[1],
                "smd_before": _smd(means, spread),
                "mean_treated_matched": after[0],
                "mean_control_matched": after[1],
                "smd_after": _smd(after, spread),
                "tokens_treated": int(a.sum()),
                "tokens_control": int(b.sum()),
                "tokens_matched": match.matched,
                "partners_effective": effective,
            }
        )
    return rows


def _smd(means: list[float | None], spread: float) -> float | None:
    if None in means or spread <= 0:
        return None
    return (means[0] - means[1]) / spread
