"""What must come out as nothing: the same checkpoint twice, and features that cannot matter.

null check: a checkpoint scored against itself has gain 0 at every token; what is not 0 is scoring noise.
placebo features: a hash of the token id and C shuffled within each prompt, added to the regression; a coefficient that
is far from 0 means that the intervals are too narrow or the model is wrong. They say nothing about confounding by what
differs between tokens of different support.
shuffle test: beta_L - beta_I (raw) with C shuffled within prompts many times. Its spread is what the gap would be if it
did not matter which token of a prompt has which C. Shuffling also breaks C's relation to D and H, so a gap that is
large against it can still be confounded: see matching and regression_to_mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bootstrap import Clusters, Estimate
from .gain import Floats, GainTable
from .regression import Fit, build_design, fit, model_terms
from .unit_scores import UnitScores

NULL_TOLERANCE = 1e-4
"""Nats that scoring the same checkpoint twice may differ by at a token."""
SHUFFLES = 200


@dataclass(frozen=True)
class NullCheck:
    """passed: the largest |gain| is at most the tolerance. mean: with its interval."""

    passed: bool
    largest: float
    not_zero: int
    mean: Estimate
    tolerance: float = NULL_TOLERANCE


def null_check(table: GainTable, clusters: Clusters, tolerance: float = NULL_TOLERANCE) -> NullCheck:
    """Of a table whose "after" is the same checkpoint as its "before"."""
    gain = table.gain["absolute"]
    largest = float(np.abs(gain).max())
    return NullCheck(largest <= tolerance, largest, int(np.count_nonzero(gain)), clusters.mean(gain), tolerance)


def token_hash(token_id: np.ndarray) -> Floats:
    """float64 [N] in [0, 1), the same for the same token id (splitmix64)."""
    x = token_id.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53


def shuffle_within(codes: np.ndarray, values: Floats, generator: np.random.Generator) -> Floats:
    """values [N] permuted among the tokens of each cluster."""
    order = np.argsort(codes, kind="stable")
    shuffled = order[np.argsort(codes[order] + generator.random(len(codes)))]
    result = np.empty_like(values)
    result[order] = values[shuffled]
    return result


def placebo_fits(table: GainTable, scores: UnitScores, gain: Floats, clusters: Clusters) -> dict[str, Fit]:
    """The compatibility model with one placebo more, by the placebo's name."""
    terms = model_terms("compatibility", table, scores)
    generator = np.random.default_rng([clusters.seed, 1])
    placebos = {
        "token_hash": token_hash(table.token_id),
        "shuffled_compatibility": shuffle_within(clusters.codes, scores.c, generator),
    }
    return {
        name: fit(f"placebo_{name}", terms | {"placebo": values}, gain, clusters) for name, values in placebos.items()
    }


@dataclass(frozen=True)
class ShuffleTest:
    """gap: observed, raw (nats per unit of D). low, high: 95% of the shuffled gaps. p: two-sided, never 0."""

    gap: float | None
    low: float | None
    high: float | None
    p: float | None
    shuffles: int
    note: str = ""


def shuffle_test(
    table: GainTable, scores: UnitScores, gain: Floats, clusters: Clusters, shuffles: int = SHUFFLES
) -> ShuffleTest:
    """The raw gap against its distribution with C shuffled within prompts."""
    gap = _ShuffledGap(table, scores, gain)
    if gap.note:
        return ShuffleTest(None, None, None, None, 0, gap.note)
    observed, generator = gap(scores.c), np.random.default_rng([clusters.seed, 2])
    gaps = np.array([gap(shuffle_within(clusters.codes, scores.c, generator)) for _ in range(shuffles)])
    gaps = gaps[np.isfinite(gaps)]
    if len(gaps) < 2 or np.ptp(gaps) == 0:
        return ShuffleTest(observed, None, None, None, len(gaps), "C is the same within every prompt")
    low, high = (float(q) for q in np.quantile(gaps, [0.025, 0.975]))
    beyond = int(np.count_nonzero(np.abs(gaps - gaps.mean()) >= abs(observed - gaps.mean())))
    return ShuffleTest(observed, low, high, (1 + beyond) / (1 + len(gaps)), len(gaps))


class _ShuffledGap:
    """The raw gap for any C, with everything that does not depend on C computed once."""

    def __init__(self, table: GainTable, scores: UnitScores, gain: Floats):
        terms = model_terms("split", table, scores)
        design = build_design(terms, gain)
        self.note = design if isinstance(design, str) else ""
        if isinstance(design, str):
            return
        self._d = scores.d
        self._fixed = np.delete(design.x, [1 + design.terms.index(t) for t in ("learnable", "incompatible")], axis=1)
        self._xx, self._xy = self._fixed.T @ self._fixed, self._fixed.T @ gain
        self._gain = gain

    def __call__(self, c: Floats) -> float:
        """NaN where C makes the columns collinear."""
        parts = np.stack([self._d * c, self._d * (1 - c)], axis=1)
        corner = self._fixed.T @ parts
        xx = np.block([[self._xx, corner], [corner.T, parts.T @ parts]])
        if np.linalg.eigvalsh(xx)[0] < 1e-9 * len(c):
            return float("nan")
        beta = np.linalg.solve(xx, np.r_[self._xy, parts.T @ self._gain])
        return float(beta[-2] - beta[-1])
