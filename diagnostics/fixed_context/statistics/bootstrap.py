"""Prompt-cluster bootstrap from sums per prompt: tokens of a prompt hang together, so whole prompts are resampled.

Every statistic here is a function of sums over tokens. Those are added up once per prompt; a replicate is the prompts'
sums times how often each was drawn, so that 1,000 replicates of 57,600 tokens cost a matrix product.
Axes: N tokens, G prompts, R replicates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

FEW_CLUSTERS = 10
LEAST_CLUSTERS = 5
"""Prompts without which there is no interval, no p and no regression."""
LEVEL = 0.95
_MOST_UNDEFINED = 0.05

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number, its interval and its test against 0; None where there is none, and note says why.

    low, high: 95%. se: standard error. p: two-sided, from the replicates that the interval is from, so that it is below
    0.05 where the interval leaves 0 out; where all of them lie on one side, t of value / se with G - 1 degrees of
    freedom tells how small it is.
    tokens, prompts: what it was computed on.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    se: float | None = None
    p: float | None = None
    tokens: int = 0
    prompts: int = 0
    note: str = ""

    def row(self, prefix: str = "") -> dict[str, float | int | str | None]:
        """Flat, for a table: value, low, high, se, p under the prefix; tokens, prompts and note without it."""
        names = {name: f"{prefix}_{name}" if prefix else name for name in ("low", "high", "se", "p")}
        named = {prefix or "value": self.value} | {to: getattr(self, name) for name, to in names.items()}
        return named | {"tokens": self.tokens, "prompts": self.prompts, "note": self.note}


def absent(note: str, tokens: int = 0, prompts: int = 0) -> Estimate:
    """No number, and why."""
    return Estimate(None, tokens=tokens, prompts=prompts, note=note)


class Clusters:
    """The prompts of N tokens and R draws of them.

    cluster: [N], any values; tokens with the same one are of one prompt. codes: integer [N], 0..G-1. weights: float64
    [R, G], how often a replicate drew each prompt, from the seed alone. Raises ValueError for no token.
    """

    def __init__(self, cluster: NDArray, replicates: int = 1000, seed: int = 0):
        if not len(cluster):
            raise ValueError("no token is left to analyse")
        if replicates < 1:
            raise ValueError(f"--bootstrap {replicates} must be 1 or more")
        names, self.codes = np.unique(cluster, return_inverse=True)
        self.count, self.replicates, self.seed = len(names), replicates, seed
        self._order = np.argsort(self.codes, kind="stable")
        self._starts = np.r_[0, np.cumsum(np.bincount(self.codes))]
        draw = np.random.default_rng(seed).multinomial
        share = np.full(self.count, 1 / self.count)
        self.weights = (
            draw(self.count, share, size=replicates).astype(np.float64) if self.count > 1 else np.ones((0, 1))
        )

    def __len__(self) -> int:
        return len(self.codes)

    def sums(self, values: NDArray) -> Floats:
        """float64 [G, ...]: values [N, ...] added up by prompt."""
        values = np.asarray(values, dtype=np.float64)
        return np.add.reduceat(values[self._order], self._starts[:-1], axis=0)

    def grams(self, left: Floats, right: Floats) -> Floats:
        """float64 [G, P, Q]: left'right of each prompt; left [N, P], right [N, Q]."""
        left, right = left[self._order], right[self._order]
        bounds = zip(self._starts[:-1], self._starts[1:], strict=True)
        return np.stack([left[a:b].T @ right[a:b] for a, b in bounds])

    def draws(self, sums: Floats) -> Floats:
        """float64 [R, ...]: sums [G, ...] of every replicate."""
        return np.tensordot(self.weights, sums, axes=1)

    def mean(self, values: NDArray, weight: NDArray | None = None) -> Estimate:
        """Mean of values [N] over tokens, or weighted by weight [N] >= 0."""
        weight = np.ones(len(self)) if weight is None else np.asarray(weight, dtype=np.float64)
        return self.difference(values, weight, None)

    def difference(self, values: NDArray, plus: NDArray, minus: NDArray | None) -> Estimate:
        """Weighted mean of values [N] under plus less that under minus (weights [N] >= 0; None: no second mean)."""
        sides = [np.asarray(side, dtype=np.float64) for side in (plus, minus) if side is not None]
        used = int(np.count_nonzero(sum(sides)))
        if any(not side.any() for side in sides):
            return absent("no token in one of the groups" if minus is not None else "no token", used, 0)
        clean = np.where(sum(sides) > 0, values, 0.0)
        sums = self.sums(np.stack([array for side in sides for array in (side * clean, side)], axis=1))
        whole, draws = sums.sum(0), self.draws(sums)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = whole[0] / whole[1] - (whole[2] / whole[3] if minus is not None else 0.0)
            replicates = draws[:, 0] / draws[:, 1] - (draws[:, 2] / draws[:, 3] if minus is not None else 0.0)
        prompts = int(np.count_nonzero(sums[:, 1::2].sum(1)))
        return self.estimate(float(value), replicates, used, prompts)

    def estimate(self, value: float, replicates: Floats, tokens: int | None = None, prompts: int | None = None):
        """An Estimate from a value and its replicates [R], of which some may be NaN (the statistic was not defined)."""
        return estimate(value, replicates, len(self) if tokens is None else tokens, prompts or self.count)


def estimate(value: float, replicates: Floats, tokens: int, prompts: int) -> Estimate:
    """Expanded percentile interval (Hesterberg 2015, section 5): the plain one is too narrow with few clusters."""
    if note := too_few(prompts) or _undefined(replicates):
        return Estimate(value, tokens=tokens, prompts=prompts, note=note)
    defined = replicates[np.isfinite(replicates)]
    expansion = math.sqrt(prompts / (prompts - 1))
    tail = float(ndtr(expansion * stdtrit(prompts - 1, (1 - LEVEL) / 2)))
    low, high = (float(q) for q in np.quantile(defined, [tail, 1 - tail]))
    se = float(defined.std(ddof=1))
    side, share = _smaller_side(defined, 0.0)
    p = _p(side, float(2 * stdtr(prompts - 1, ndtri(share) / expansion)), value, se, prompts)
    return Estimate(value, low, high, se, p, tokens, prompts, reliability(prompts))


def estimate_t(value: float, se: float, t: Floats, tokens: int, prompts: int) -> Estimate:
    """Bootstrap-t interval from a value, its standard error and the replicates' t [R] (NaN: not defined)."""
    if note := too_few(prompts) or _undefined(t):
        return Estimate(value, tokens=tokens, prompts=prompts, note=note)
    defined = t[np.isfinite(t)]
    low, high = (float(q) for q in np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    side, share = _smaller_side(defined, value / se if se > 0 else 0.0)
    p = _p(side, 2 * share, value, se, prompts)
    return Estimate(value, value - high * se, value - low * se, se, p, tokens, prompts, reliability(prompts))


def _smaller_side(replicates: Floats, point: float) -> tuple[int, float]:
    """Replicates on the side of point that has fewer, and their share with the observed one among them, at most 0.5."""
    side = min(np.count_nonzero(replicates <= point), np.count_nonzero(replicates >= point))
    return int(side), min((1 + side) / (1 + len(replicates)), 0.5)


def _p(side: int, counted: float, value: float, se: float, prompts: int) -> float | None:
    """counted, or less where no replicate is on the other side; None where nothing varies."""
    if se <= 1e-12 * max(1.0, abs(value)):
        return None
    return counted if side else min(counted, float(2 * stdtr(prompts - 1, -abs(value) / se)))


def _undefined(replicates: Floats) -> str:
    defined = int(np.isfinite(replicates).sum())
    if defined >= 2 and defined >= (1 - _MOST_UNDEFINED) * len(replicates):
        return ""
    return f"not defined in {len(replicates) - defined} of {len(replicates)} replicates: too few prompts have it"


def too_few(prompts: int) -> str:
    """Why so few prompts give no interval; empty where they are enough."""
    if prompts >= LEAST_CLUSTERS:
        return ""
    shown = "one prompt" if prompts == 1 else f"{prompts} prompts"
    return f"{shown}, below {LEAST_CLUSTERS}: no cluster bootstrap, no interval"


def reliability(prompts: int) -> str:
    if prompts >= FEW_CLUSTERS:
        return ""
    return f"only {prompts} prompts: cluster-robust intervals are unreliable below {FEW_CLUSTERS}"


def adjusted_p(p: list[float | None]) -> tuple[list[float | None], list[float | None]]:
    """Holm (family-wise) and Benjamini-Hochberg (false discovery) of one family of tests; None stays None."""
    known = [i for i, value in enumerate(p) if value is not None]
    holm: list[float | None] = [None] * len(p)
    bh: list[float | None] = [None] * len(p)
    if known:
        values = np.array([p[i] for i in known])
        order = np.argsort(values, kind="stable")
        count = len(values)
        down = np.maximum.accumulate(values[order] * np.arange(count, 0, -1)).clip(max=1)
        up = np.minimum.accumulate((values[order] * count / np.arange(1, count + 1))[::-1])[::-1].clip(max=1)
        for place, family_wise, discovery in zip(order, down, up, strict=True):
            holm[known[place]], bh[known[place]] = float(family_wise), float(discovery)
    return holm, bh


def correct(rows: list[dict], p_key: str = "p") -> None:
    """Add p_holm, p_bh and tests (how many the family has) to the rows of one family, in place."""
    holm, bh = adjusted_p([row[p_key] for row in rows])
    tests = sum(row[p_key] is not None for row in rows)
    for row, a, b in zip(rows, holm, bh, strict=True):
        row |= {"p_holm": a, "p_bh": b, "tests": tests}
