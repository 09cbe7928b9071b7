"""Regressions of the gain: a row a term, and the gap between learnable and incompatible disagreement."""

from __future__ import annotations

from ..bootstrap import Clusters, correct
from ..gain import GAIN_MEASURES, GainTable
from ..regression import MODELS, Fit, fit, model_terms
from ..settings import Settings
from ..tables import Row
from .by_k import each_k

TESTED = ("compatibility", "learnable", "incompatible", "gap", "gap_raw")
"""Terms of the regressions that are claims and share one correction for multiple tests; the others are controls."""


def regression_rows(table: GainTable, settings: Settings, clusters: Clusters) -> list[Row]:
    """A row a (gain measure, K, model, term), and the split model's terms gap and gap_raw.

    beta, se, t, p, low, high: cluster-robust; boot_low, boot_high, boot_se: bootstrap; of a gap, the
    bootstrap's. raw: nats of gain a unit. p_holm, p_bh: over the TESTED terms of one gain measure; tests: how many.
    """
    rows: list[Row] = []
    for measure in (name for name in GAIN_MEASURES if name in table.gain):
        family: list[Row] = []
        for k, part, scores, prompts in each_k(table, settings, clusters):
            for model in MODELS:
                fitted = fit(model, model_terms(model, part, scores), part.gain[measure], prompts)
                family += fit_rows(fitted, {"gain": measure, "k": k})
        correct([row for row in family if row["term"] in TESTED])
        rows += family
    return rows


def fit_rows(fitted: Fit, head: Row) -> list[Row]:
    """Rows of one regression; a single row where there is none."""
    tail = {"r_squared": fitted.r_squared, "tokens": fitted.tokens, "prompts": fitted.prompts}
    left_out = ", ".join(fitted.left_out)
    if not fitted.coefficients:
        empty = dict.fromkeys(("beta", "se", "t", "p", "low", "high", "boot_se", "boot_low", "boot_high", "raw"))
        return [head | {"model": fitted.model, "term": ""} | empty | tail | {"left_out": left_out, "note": fitted.note}]
    rows = [
        head
        | {
            "model": fitted.model, "term": c.term, "beta": c.beta, "se": c.se, "t": c.t, "p": c.p, "low": c.low,
            "high": c.high, "boot_se": c.bootstrap.se, "boot_low": c.bootstrap.low, "boot_high": c.bootstrap.high,
            "raw": c.raw,
        }
        | tail
        | {"left_out": left_out, "note": fitted.note}
        for c in fitted.coefficients
    ]  # fmt: skip
    for term, gap in (("gap", fitted.gap), ("gap_raw", fitted.gap_raw)):
        if gap is not None:
            t = gap.value / gap.se if gap.value is not None and gap.se else None
            row = {
                "model": fitted.model, "term": term, "beta": gap.value, "se": gap.se, "t": t, "p": gap.p,
                "low": gap.low, "high": gap.high, "boot_se": gap.se, "boot_low": gap.low, "boot_high": gap.high,
                "raw": gap.value if term == "gap_raw" else None,
            }  # fmt: skip
            rows.append(head | row | tail | {"left_out": left_out, "note": gap.note})
    return rows
