"""Cluster-robust regression of the gain on entropy, disagreement and support, and the gap between its two kinds.

compatibility:  z(gain) ~ 1 + z(h) + z(d) + z(h) z(d) + z(position) + z(teacher entropy) + z(c)
split:          z(gain) ~ 1 + z(h) + z(d_L) + z(d_I) + z(h) z(d) + z(position) + z(teacher entropy)

h, d, c lie in [0, 1]; d_L = d c is the learnable and d_I = d (1 - c) the incompatible disagreement, d_L + d_I = d. z is
(x - mean) / sd over all tokens, fixed through the bootstrap.

Two gaps beta_L - beta_I, because they ask different things. The standardised one (the paper's) is in sd of gain per sd
of each score, and is not 0 when D helps whatever its kind, since sd(d_L) != sd(d_I). The raw one is in nats of gain per
unit of normalised disagreement and is 0 then. A claim that learnable disagreement teaches more rests on the raw gap.
Axes: N tokens, G prompts, P terms, R replicates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bootstrap import Clusters, Estimate, Floats, absent, estimate_t, too_few
from .gain import GainTable
from .unit_scores import UnitScores

MODELS = {
    "compatibility": (
        "entropy",
        "disagreement",
        "entropy_x_disagreement",
        "position",
        "teacher_entropy",
        "compatibility",
    ),
    "split": ("entropy", "learnable", "incompatible", "entropy_x_disagreement", "position", "teacher_entropy"),
}
_CONTROLS = ("position", "teacher_entropy")
_COLLINEAR = 1e-9


@dataclass(frozen=True)
class Coefficient:
    """term: its name. beta: sd of gain per sd of the term. se, t, p, low, high: cluster-robust (statsmodels, t with
    G - 1 degrees of freedom), 95%. bootstrap: beta with its bootstrap-t interval. raw: nats of gain per unit."""

    term: str
    beta: float
    se: float
    t: float
    p: float
    low: float
    high: float
    bootstrap: Estimate
    raw: float


@dataclass(frozen=True)
class Fit:
    """A regression; coefficients is empty where it could not be made, and note says why.

    gap, gap_raw: beta_L - beta_I, standardised and in nats per unit of normalised D; None without both kinds.
    left_out: controls that are constant.
    """

    model: str
    coefficients: tuple[Coefficient, ...]
    gap: Estimate | None
    gap_raw: Estimate | None
    r_squared: float | None
    tokens: int
    prompts: int
    left_out: tuple[str, ...] = ()
    note: str = ""

    def coefficient(self, term: str) -> Coefficient | None:
        return next((c for c in self.coefficients if c.term == term), None)


@dataclass(frozen=True)
class Design:
    """x: [N, P + 1], a constant and standardised terms; y: [N], standardised. scale, y_scale: their sd."""

    terms: tuple[str, ...]
    x: Floats
    y: Floats
    scale: Floats
    y_scale: float
    left_out: tuple[str, ...]


def model_terms(model: str, table: GainTable, scores: UnitScores) -> dict[str, Floats]:
    """term -> [N], before standardising but for the interaction, the product of two standardised scores."""
    known = {
        "entropy": scores.h,
        "disagreement": scores.d,
        "compatibility": scores.c,
        "learnable": scores.learnable,
        "incompatible": scores.incompatible,
        "position": table.position,
        "teacher_entropy": table.teacher_entropy,
    }
    known["entropy_x_disagreement"] = standardised(scores.h) * standardised(scores.d)
    return {term: known[term] for term in MODELS[model]}


def build_design(terms: dict[str, Floats], gain: Floats) -> Design | str:
    """The design, or why there is none. A constant control is left out; any other constant term leaves no model."""
    constant = [name for name, values in terms.items() if _is_constant(values)]
    if _is_constant(gain):
        return f"all gains are equal ({gain[0]:g}): nothing to explain"
    if bad := [name for name in constant if name not in _CONTROLS]:
        return f"constant: {', '.join(bad)}"
    used = {name: values for name, values in terms.items() if name not in constant}
    scale = np.array([values.std() for values in used.values()])
    z = np.stack([standardised(values) for values in used.values()], axis=1)
    x = np.column_stack([np.ones(len(gain)), z])
    if np.linalg.eigvalsh(x.T @ x / len(x))[0] < _COLLINEAR:
        return f"collinear: {', '.join(used)}"
    return Design(tuple(used), x, standardised(gain), scale, float(gain.std()), tuple(constant))


def fit(model: str, terms: dict[str, Floats], gain: Floats, clusters: Clusters) -> Fit:
    """OLS with statsmodels' cluster covariance, and the bootstrap of the coefficients and of the gap."""
    design = build_design(terms, gain)
    if isinstance(design, str):
        return _no_fit(model, terms, clusters, design)
    if note := too_few(clusters.count):
        return _no_fit(model, terms, clusters, note)
    solved = cluster_ols(design.x, design.y, clusters.codes)
    one_each = np.eye(len(design.terms) + 1)[1:]
    both = _both_kinds(design.terms)
    gaps = [gap_contrast(design, standardised) for standardised in (True, False)] if both else []
    estimates = bootstrap_contrasts(design.x, design.y, clusters, np.array([*one_each, *gaps]))
    raw = design.y_scale / design.scale
    coefficients = tuple(
        Coefficient(
            term, *(float(part[i + 1]) for part in solved[:6]), estimates[i], float(solved.beta[i + 1] * raw[i])
        )
        for i, term in enumerate(design.terms)
    )
    gap, gap_raw = estimates[len(design.terms) :] if both else (None, None)
    return Fit(
        model,
        coefficients,
        gap,
        gap_raw,
        solved.r_squared,
        len(gain),
        clusters.count,
        design.left_out,
        coefficients[0].bootstrap.note,
    )


def gap_contrast(design: Design, standardised: bool) -> Floats:
    """[P + 1]: the weights of the coefficients whose sum is beta_L - beta_I."""
    weights = np.zeros(len(design.terms) + 1)
    for term, sign in (("learnable", 1.0), ("incompatible", -1.0)):
        i = design.terms.index(term)
        weights[i + 1] = sign if standardised else sign * design.y_scale / design.scale[i]
    return weights


def _no_fit(model: str, terms: dict[str, Floats], clusters: Clusters, note: str) -> Fit:
    gap = absent(note, len(clusters), clusters.count) if _both_kinds(terms) else None
    return Fit(model, (), gap, gap, None, len(clusters), clusters.count, (), note)


@dataclass(frozen=True)
class RobustOLS:
    """[P + 1] each, the constant first: beta, se, t, p, low, high, with G - 1 degrees of freedom."""

    beta: Floats
    se: Floats
    t: Floats
    p: Floats
    low: Floats
    high: Floats
    r_squared: float

    def __getitem__(self, rows: slice) -> list[Floats]:
        return [self.beta, self.se, self.t, self.p, self.low, self.high][rows]


def cluster_ols(x: Floats, y: Floats, codes: NDArray) -> RobustOLS:
    """statsmodels OLS of y [N] on x [N, P + 1], covariance clustered by codes with its small-sample correction."""
    from statsmodels.regression.linear_model import OLS

    result = OLS(y, x).fit(cov_type="cluster", cov_kwds={"groups": codes}, use_t=True)
    interval = result.conf_int(0.05)
    return RobustOLS(
        result.params,
        result.bse,
        result.tvalues,
        result.pvalues,
        interval[:, 0],
        interval[:, 1],
        float(result.rsquared),
    )


def bootstrap_contrasts(x: Floats, y: Floats, clusters: Clusters, contrasts: Floats) -> list[Estimate]:
    """Each contrast (row of [Q, P]) of the coefficients of y [N] on x [N, P], with a bootstrap-t interval.

    A replicate's t is its contrast less the whole's, over its own cluster-robust error: an interval from those covers
    better with few or uneven prompts than quantiles of the contrast itself (Cameron, Gelbach and Miller 2008). se is
    cluster-robust, p is the interval's.
    """
    xx, xy = clusters.grams(x, x), clusters.grams(x, y[:, None])[:, :, 0]
    correction = clusters.count / (clusters.count - 1) * (len(y) - 1) / (len(y) - x.shape[1])
    beta, error = _robust(xx.sum(0)[None], xy.sum(0)[None], xx, xy, np.ones((1, clusters.count)), contrasts)
    beta, se = beta[0], np.sqrt(correction * error[0])
    draws, errors = _robust(clusters.draws(xx), clusters.draws(xy), xx, xy, clusters.weights, contrasts)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = (draws - beta) / np.sqrt(correction * errors)
    return [estimate_t(float(beta[q]), float(se[q]), t[:, q], len(y), clusters.count) for q in range(len(contrasts))]


def _robust(a: Floats, b: Floats, xx: Floats, xy: Floats, weights: Floats, contrasts: Floats) -> tuple[Floats, Floats]:
    """Contrasts [R, Q] of the solutions of R systems a [R, P, P] beta = b [R, P], and their uncorrected sandwich
    variances [R, Q]; NaN where one is singular. xx [G, P, P], xy [G, P]: of the prompts, drawn weights [R, G] times."""
    right = np.concatenate([b[:, :, None], np.broadcast_to(contrasts.T, (len(b), *contrasts.T.shape))], axis=2)
    solved = solve_each(a, right)
    beta, bread = solved[:, :, 0], solved[:, :, 1:]
    residual = xy[None] - np.tensordot(beta, xx, axes=(1, 2))  # the prompts' sums of x times residual, [R, G, P]
    scores = residual @ bread
    return beta @ contrasts.T, np.einsum("rg,rgq->rq", weights, scores**2)


def solve_each(xx: Floats, xy: Floats) -> Floats:
    """[R, P, Q]: solutions of R systems [P, P] x = [P, Q]; NaN where one is singular."""
    if not len(xx):
        return np.empty(xy.shape)
    least = np.linalg.eigvalsh(xx)
    singular = least[:, 0] < _COLLINEAR * np.maximum(least[:, -1], 1e-300)
    result = np.full(xy.shape, np.nan)
    result[~singular] = np.linalg.solve(xx[~singular], xy[~singular])
    return result


def standardised(values: Floats) -> Floats:
    sd = values.std()
    return (values - values.mean()) / sd if sd > 0 else np.zeros_like(values)


def _is_constant(values: Floats) -> bool:
    return bool(values.std() <= 1e-12 * max(1.0, float(np.abs(values).max(initial=0))))


def _both_kinds(terms) -> bool:
    return "learnable" in terms and "incompatible" in terms
