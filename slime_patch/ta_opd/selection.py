"""From raw scores to an exact set of tokens: batch normalisation, ranking keys, budgets.

Everything works on the valid tokens of one rollout batch, flat, samples one after another; "position" is a token's
place in that order, so ties by position are ties by (sample, position in the response).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

NORMALISATIONS = ("batch_quantile", "batch_minmax", "none")
BUDGET_SCOPES = ("batch", "sample")
_LEAST_SPREAD = 1e-12

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Normalised:
    """values: float32 [N] in [0, 1], NaN where the score was NaN; degenerate: the axis has no spread."""

    values: Floats
    degenerate: bool


def normalise(
    scores: Floats,
    population: Bools | None = None,
    mode: str = "batch_quantile",
    q_low: float = 0.05,
    q_high: float = 0.95,
) -> Normalised:
    """Eq 11: clip((z - Q_low) / (Q_high - Q_low + eps), 0, 1), quantiles over the finite scores of the population.

    mode batch_minmax takes the least and the greatest score for the quantiles; none is clip(z / max, 0, 1). An axis
    whose quantiles lie closer than 1e-12 (or with no finite score) is degenerate: all its values are 0.
    Raises ValueError for an unknown mode or unless 0 <= q_low < q_high <= 1.
    """
    if mode not in NORMALISATIONS:
        raise ValueError(f"--opd-metric-normalization {mode!r} is not one of {', '.join(NORMALISATIONS)}")
    if not 0 <= q_low < q_high <= 1:
        raise ValueError(
            f"--opd-metric-q-low {q_low} and --opd-metric-q-high {q_high} must satisfy 0 <= low < high <= 1"
        )
    missing = np.isnan(scores)
    inside = np.isfinite(scores) if population is None else population & np.isfinite(scores)
    finite = scores if inside.all() else scores[inside]
    if not len(finite):
        low, high = 0.0, 0.0
    elif mode == "batch_quantile":
        low, high = (float(q) for q in np.quantile(finite, [q_low, q_high]))
    else:
        low, high = (float(finite.min()) if mode == "batch_minmax" else 0.0), float(finite.max())
    degenerate = high - low < _LEAST_SPREAD
    if degenerate:
        values = np.zeros_like(scores)
    else:
        values = np.clip((scores - np.float32(low)) / np.float32(high - low + _LEAST_SPREAD), 0, 1)
    values[missing] = np.nan
    return Normalised(values, degenerate)


def budget(ratio: float, count: int, round_down: bool = False) -> int:
    """n = ceil(rho N) (eq 13), or max(1, floor(rho N)) of N > 0, exact in decimal.

    0.07 of 100 is 7 although 0.07 * 100 > 7 in floating point. Raises ValueError unless 0 < ratio <= 1.
    """
    check_ratio(ratio)
    exact = Fraction(str(ratio)) * count
    return min(count, max(1, math.floor(exact))) if round_down else math.ceil(exact)


def check_ratio(ratio: float) -> None:
    if not 0 < ratio <= 1:
        raise ValueError(f"--opd-budget-ratio {ratio} is outside 0..1 (0 excluded)")


def select_top(keys: Sequence[NDArray], n: int) -> Bools:
    """The n tokens with the largest keys[0], ties by keys[1], ..., at last by the smaller position. O(N).

    keys: arrays [N] without NaN. Returns bool [N] with exactly min(n, N) True.
    """
    first, rest = keys[0], keys[1:]
    if n <= 0:
        return np.zeros(len(first), dtype=bool)
    if n >= len(first):
        return np.ones(len(first), dtype=bool)
    threshold = np.partition(first, len(first) - n)[len(first) - n]
    keep = first > threshold
    need = n - int(np.count_nonzero(keep))
    ties = np.flatnonzero(first == threshold)
    if len(ties) > need and rest:
        keep[ties[select_top([key[ties] for key in rest], need)]] = True
    else:
        keep[ties[:need]] = True
    return keep


@dataclass(frozen=True)
class Ranking:
    """How a method orders tokens: larger keys first, arrays [N]; tokens with eligible False are never kept."""

    keys: tuple[NDArray, ...]
    eligible: Bools


def select_ranked(ranking: Ranking, n: int, sample: NDArray, least: int = 0) -> Bools:
    """The n best eligible tokens, at least `least` of them in each sample where the budget allows; bool [N].

    The minimum swaps tokens in under the same ranking and never adds to the budget: first every sample's best
    token is placed, then every sample's second best, ..., and what is left of n goes by rank alone.
    sample: integer [N], not decreasing, the sample of each token.
    """
    index = np.flatnonzero(ranking.eligible)
    keys = [key[index] for key in ranking.keys]
    keep = np.zeros(len(ranking.eligible), dtype=bool)
    chosen = select_top(keys, n)
    if least > 0 and n > 0 and len(index):
        chosen = _with_minimum(keys, n, sample[index], least, chosen)
    keep[index[chosen]] = True
    return keep


def _with_minimum(keys: list[NDArray], n: int, sample: NDArray, least: int, chosen: Bools) -> Bools:
    places = int(sample[-1]) + 1
    kept, there = np.bincount(sample[chosen], minlength=places), np.bincount(sample, minlength=places)
    short = kept < np.minimum(least, there)
    if not short.any():
        return chosen
    pool = np.flatnonzero(chosen | short[sample])
    order = np.lexsort((*(-_sortable(key[pool]) for key in reversed(keys)), sample[pool]))
    ordered_sample = sample[pool][order]
    starts = np.flatnonzero(np.r_[True, ordered_sample[1:] != ordered_sample[:-1]])
    rank_in_sample = np.empty(len(pool), dtype=np.int64)
    rank_in_sample[order] = np.arange(len(pool)) - np.repeat(starts, np.diff(np.r_[starts, len(pool)]))
    placed_first = -np.minimum(rank_in_sample, least)
    result = np.zeros(len(sample), dtype=bool)
    result[pool[select_top([placed_first, *(key[pool] for key in keys)], n)]] = True
    return result


def _sortable(key: NDArray) -> NDArray:
    """An array whose negation orders as the key does backwards (unsigned and boolean keys cannot be negated)."""
    if key.dtype.kind == "f":
        return key
    return np.unique(key, return_inverse=True)[1]


def random_keys(seed: int, rollout_id: int, count: int) -> NDArray[np.uint64]:
    """A uniform key per valid token, the same for the same (seed, rollout id, count) on every machine."""
    bits = np.random.Philox(np.random.SeedSequence([seed % 2**64, rollout_id % 2**64]))
    return bits.random_raw(count)


def random_keys_released(seed: int, rollout_id: int, count: int) -> NDArray[np.int64]:
    """Keys whose largest n are the first n of random.Random(seed + rollout id)'s shuffle, as the released code draws.

    The released code counts the rollouts itself and only while a token bank is written; here it is the rollout id.
    """
    order = list(range(count))
    random.Random(seed + rollout_id).shuffle(order)
    keys = np.empty(count, dtype=np.int64)
    keys[order] = np.arange(count, 0, -1)
    return keys
