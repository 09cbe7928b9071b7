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
nulls        the coefficient that the regression would give if the gain were
               uniform   (1 - lambda) K0, lambda = sum K1 / sum K0,
               linear    a + b K0: contraction and reversion together, with the observed variances,
               function  the mean gain of tokens with about the same K0 (20 quantile bins): any curve in K0,
             and the coefficient beyond it; OLS is linear, so that is the regression of gain - null. All of it is
             estimated anew in every bootstrap replicate. The nulls credit K0 with all that it shares with the scores:
             "beyond" errs towards 0 where an effect is real and its score rises with K0, and null / observed, where
             both have one sign, bounds from above what K0 alone explains. They cannot exclude a confounder that is not
             a function of K0. The uniform null excludes one number, the mean decrease, not that small and large
             divergences shrink by different shares; the function null does.
adjusted     the regression with K0 and its bins among the controls: tokens that had as far to go. Unbiased where the
             gain is a function of K0 plus the effects. The coefficient of D itself means little there; the gap is what
             it is for. It cannot exclude a confounder that is not a function of K0.
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
from .regression import Fit, bootstrap_coefficients, build_design, fit, gap_contrast, model_terms, standardised
from .unit_scores import UnitScores

NULLS = ("uniform", "linear", "function")
BINS = 20


@dataclass(frozen=True)
class Slopes:
    """slope = reversion + contraction, of gain on KL before; kept: lambda, the share of divergence left."""

    slope: Estimate
    reversion: Estimate
    contraction: Estimate
    kept: Estimate


@dataclass(frozen=True)
class Beyond:
    """quantity: a term's standardised coefficient, "gap" or "gap_raw". share: null / observed, where of one sign."""

    quantity: str
    null: str
    observed: Estimate
    under_null: Estimate
    beyond: Estimate
    share: float | None


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


def beyond_nulls(table: GainTable, scores: UnitScores, clusters: Clusters) -> list[Beyond] | str:
    """Coefficients, gap and raw gap of the split model and C's of the compatibility model, against every null.

    The gain is before - after, in nats. A reason where there is no model.
    """
    if table.before is None or table.after is None:
        return "the file has no KL before and after"
    if clusters.count < 2:
        return "one prompt: no cluster bootstrap"
    results: list[Beyond] = []
    for model, wanted in (("split", ("learnable", "incompatible")), ("compatibility", ("compatibility",))):
        gain = table.before - table.after
        design = build_design(model_terms(model, table, scores), gain)
        if isinstance(design, str):
            return design
        contrasts = {term: np.eye(len(design.terms) + 1)[design.terms.index(term) + 1] for term in wanted}
        if model == "split":
            contrasts |= {"gap": gap_contrast(design, True), "gap_raw": gap_contrast(design, False)}
        bins = _bin_dummies(table.before)
        y = np.column_stack([gain, table.before, bins]) / design.y_scale
        whole, draws = bootstrap_coefficients(design.x, y, clusters)
        sums = clusters.sums(
            np.column_stack(
                [np.ones(len(gain)), table.before, table.after, table.before**2, table.before * table.after]
            )
        )
        binned = clusters.grams(bins, np.column_stack([np.ones(len(gain)), gain]))
        nulls_whole = _null_coefficients(whole[None], sums.sum(0)[None], binned.sum(0)[None])
        nulls = _null_coefficients(draws, clusters.draws(sums), clusters.draws(binned))
        for quantity, contrast in contrasts.items():
            value, drawn = float(contrast @ whole[:, 0]), draws[:, :, 0] @ contrast
            observed = clusters.estimate(value, drawn)
            for null in NULLS:
                null_value, null_drawn = float(nulls_whole[null][0] @ contrast), nulls[null] @ contrast
                results.append(
                    Beyond(
                        quantity,
                        null,
                        observed,
                        clusters.estimate(null_value, null_drawn),
                        clusters.estimate(value - null_value, drawn - null_drawn),
                        null_value / value if value * null_value > 0 else None,
                    )
                )
    return results


def _null_coefficients(coefficients: Floats, sums: Floats, binned: Floats) -> dict[str, Floats]:
    """[R, P] each: what the regression gives for each null's gain.

    coefficients: [R, P, 2 + B], of gain, K0 and the bins' dummies. sums: [R, 5], of 1, K0, K1, K0^2, K0 K1. binned:
    [R, B, 2], tokens and summed gain of each bin.
    """
    n, k0, k1, k00, k01 = sums.T
    slope = 1 - (k01 / n - k0 * k1 / n**2) / (k00 / n - (k0 / n) ** 2)
    means = binned[:, :, 1] / np.maximum(binned[:, :, 0], 1)
    return {
        "uniform": (1 - k1 / k0)[:, None] * coefficients[:, :, 1],
        "linear": slope[:, None] * coefficients[:, :, 1],
        "function": np.einsum("rpb,rb->rp", coefficients[:, :, 2:], means),
    }


def _bin_dummies(values: Floats) -> Floats:
    """float64 [N, at most BINS], one column a quantile bin that has tokens."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))[1:-1]
    place = np.searchsorted(edges, values, side="right")
    dummies = (place[:, None] == np.arange(len(edges) + 1)).astype(np.float64)
    return dummies[:, dummies.any(0)]


def adjusted_fit(table: GainTable, scores: UnitScores, gain: Floats, clusters: Clusters) -> Fit:
    """The split model with KL before, straight and in bins, among the controls."""
    assert table.before is not None
    terms = model_terms("split", table, scores)
    basis = {f"kl_before_{i}": column for i, column in enumerate(_bin_dummies(table.before).T[1:], start=1)}
    if table.before.std() > 0:
        basis["kl_before"] = standardised(table.before)
    return fit("split_adjusted", terms | basis, gain, clusters)
