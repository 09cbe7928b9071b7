"""How much of a coefficient could come from KL before alone: D is measured from the number the gain subtracts from.

On frozen contexts KL before (K0) and KL after (K1) are sums over the whole vocabulary, not samples, so no measurement
error regresses. The coupling is mechanical: gain = K0 - K1 rises with K0, and D is nearly K0. Two stories without any
token-specific learning give D a coefficient:
  uniform decrease   K1 = lambda K0: every token loses the same share of its divergence, larger ones lose more nats.
  mean reversion     K0 = mu + e0, K1 = mu + e1: what is peculiar to the first checkpoint (e0, the luck of its seed) is
                     drawn again; tokens with large K0 fall and others rise, whatever the teacher said.
The first acts through K0 alone; so does the second where e0 is the same share of K0 at every entropy and support. What
the checks below can exclude, and what not:

slopes       gain on K0 has slope 1 - r s1/s0 = (1 - r) + r (1 - s1/s0), r the correlation of K0 and K1, s their sd:
             reversion (tokens change places) and contraction (the spread shrinks). A slope of 0 leaves nothing to
             explain. Learning that reorders tokens looks like reversion: 1 - r is an upper bound of the latter.
held         the regression with K0 among its regressors, as a straight line (LINE) or as any curve (CURVE: 20 quantile
             bins and a line within all of them): tokens that had as far to go. Scores and gain lose what they share
             with K0 together (Frisch and Waugh 1933), so that the gap is 0 where the gain is a function of K0, where it
             follows D whatever its kind, and where it is both. Taking a null's gain f(K0) from the gain alone would
             leave in the scores what they share with K0, and give a gap where there is none. observed less held is what
             K0 accounts for. The coefficient of D itself means little with K0 beside it; the gap is what it is for. It
             cannot exclude a confounder that is not a function of K0.
independent  D from another measure. KL(S||T) or another K comes from the same student's distribution and holds e0: it
             excludes artefacts of how D is computed (truncation, clipping), not mean reversion. D from the student of
             another seed on the same contexts (--independent) shares mu and not e0: mean reversion cannot give it a
             coefficient, a uniform decrease still can. Its coefficients are pulled towards 0 by how little the two
             students agree (`correlation`).
Axes: N tokens, G prompts, P terms, R replicates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bootstrap import Clusters, Estimate
from .gain import Floats, GainTable
from .regression import Fit, fit, model_terms, standardised
from .unit_scores import UnitScores

BASES = ("line", "curve")
BINS = 20


@dataclass(frozen=True)
class Slopes:
    """slope = reversion + contraction, of gain on KL before; kept: lambda, the share of divergence left."""

    slope: Estimate
    reversion: Estimate
    contraction: Estimate
    kept: Estimate


def slopes(before: Floats, after: Floats, clusters: Clusters) -> Slopes | str:
    """See the module. before, after: [N], nats. A reason where KL before is the same at every token."""
    if before.std() <= 1e-12 * max(1.0, abs(float(before.mean()))):
        return "KL before is the same at every token"
    one = np.ones(len(before))
    sums = clusters.sums(np.stack([one, before, after, before**2, after**2, before * after], axis=1))
    whole, draws = _slope_parts(sums.sum(0)[None])[:, 0], _slope_parts(clusters.draws(sums))
    return Slopes(*(clusters.estimate(float(v), d) for v, d in zip(whole, draws, strict=True)))


def _slope_parts(sums: Floats) -> Floats:
    """[4, R] from [R, 6]: slope, reversion, contraction, kept."""
    n, k0, k1, k00, k11, k01 = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        s0, s1 = np.sqrt(np.maximum(k00 / n - (k0 / n) ** 2, 0)), np.sqrt(np.maximum(k11 / n - (k1 / n) ** 2, 0))
        r = np.where(s1 > 0, (k01 / n - k0 * k1 / n**2) / (s0 * np.where(s1 > 0, s1, 1)), 0.0)
        return np.stack([1 - r * s1 / s0, 1 - r, r * (1 - s1 / s0), k1 / k0])


def _bin_dummies(values: Floats) -> Floats:
    """float64 [N, at most BINS], one column a quantile bin that has tokens."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))[1:-1]
    place = np.searchsorted(edges, values, side="right")
    dummies = (place[:, None] == np.arange(len(edges) + 1)).astype(np.float64)
    return dummies[:, dummies.any(0)]


def held_fit(table: GainTable, scores: UnitScores, gain: Floats, clusters: Clusters, model: str, basis: str) -> Fit:
    """A model of regression.MODELS with KL before among the regressors, in one of BASES."""
    assert table.before is not None and basis in BASES, basis
    terms = {}
    if basis == "curve":
        terms |= {f"kl_before_{i}": column for i, column in enumerate(_bin_dummies(table.before).T[1:], start=1)}
    if table.before.std() > 0:
        terms["kl_before"] = standardised(table.before)
    return fit(f"{model}_{basis}", model_terms(model, table, scores) | terms, gain, clusters)
