"""The whole analysis of one gain file: every table of analyze_fixed_context_gain, and summary.json.

Each table is a list of flat rows (see tables.py); their keys are documented where they are made. A row without a
number says why in `note`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .bootstrap import Clusters, Estimate, correct
from .buckets import bucket_rows
from .controls import NullCheck, null_check, placebo_fits, shuffle_test
from .gain import GAIN_MEASURES, Floats, GainTable
from .opd_measures import position_rows
from .q3_gap import METHODS, q3_gap
from .regression import MODELS, Fit, fit, model_terms
from .regression_to_mean import adjusted_fit, beyond_nulls, slopes
from .settings import DEFAULTS, Settings
from .tables import Row, write_summary, write_tables
from .unit_scores import unit_scores

TESTED = ("compatibility", "learnable", "incompatible", "gap", "gap_raw")
"""Terms of the regressions that are claims and share one correction for multiple tests; the others are controls."""
PARTS = 6
"""Calls of `progress` in an analysis."""


@dataclass(frozen=True)
class Analysis:
    """Rows by table; table: the tokens they are made of. placebo: coefficients that should be nothing."""

    table: GainTable
    clusters: Clusters
    settings: Settings
    gains: list[Row]
    regression: list[Row]
    q3: list[Row]
    balance: list[Row]
    buckets: list[Row]
    reversion: list[Row]
    placebo: list[Row]
    positions: list[Row]
    null: NullCheck | None = None
    notes: list[str] = field(default_factory=list)


def analyse(
    table: GainTable,
    settings: Settings = DEFAULTS,
    null: GainTable | None = None,
    independent: Floats | None = None,
    progress: Callable[[int], None] = lambda parts: None,
) -> Analysis:
    """Every analysis of a gain table.

    null: the same checkpoint scored twice. independent: float64 [N], D of the same tokens from another student.
    progress: called with 1 after each of PARTS parts.
    """
    clusters = Clusters(table.prompt, settings.bootstrap, settings.seed)
    notes = [note] if (note := clusters.mean(table.gain["absolute"]).note) else []
    main, scores = table.gain["absolute"], unit_scores(table, settings)

    def done(rows):
        progress(1)
        return rows

    regression = done(regression_rows(table, settings, clusters))
    q3, balance = done(q3_rows(table, settings, clusters))
    return Analysis(
        table,
        clusters,
        settings,
        gain_rows(table, clusters),
        regression,
        q3,
        balance,
        done(bucket_rows(table, scores, main, clusters)),
        done(reversion_rows(table, settings, clusters, independent)),
        done(placebo_rows(table, settings, clusters)),
        done(position_rows(table.other, table.tok_pos, clusters, main)),
        null_check(null, Clusters(null.prompt, settings.bootstrap, settings.seed)) if null is not None else None,
        notes,
    )


def gain_rows(table: GainTable, clusters: Clusters) -> list[Row]:
    """A row a measure: mean gain and its interval, median, share of tokens that gained."""
    return [
        {"gain": name} | clusters.mean(values).row("mean")
        | {"median": float(np.median(values)), "share_above_0": float((values > 0).mean())}
        for name, values in table.gain.items()
    ]  # fmt: skip


def regression_rows(table: GainTable, settings: Settings, clusters: Clusters) -> list[Row]:
    """A row a (gain measure, K, model, term), and the split model's terms gap and gap_raw.

    beta, se, t, p, low, high: cluster-robust; boot_low, boot_high, boot_se: bootstrap; of a gap, the
    bootstrap's. raw: nats of gain a unit. p_holm, p_bh: over the TESTED terms of one gain measure; tests: how many.
    """
    rows: list[Row] = []
    for measure in (name for name in GAIN_MEASURES if name in table.gain):
        family: list[Row] = []
        for k in table.ks:
            if ("mass", k) not in table.support:
                continue
            scores = unit_scores(table, settings, k)
            known = np.isfinite(scores.d) & np.isfinite(scores.c)
            for model in MODELS:
                part = _complete(table, clusters, known, settings)
                terms = {name: values[known] for name, values in model_terms(model, table, scores).items()}
                fitted = fit(model, terms, table.gain[measure][known], part)
                family += fit_rows(fitted, {"gain": measure, "k": k})
        correct([row for row in family if row["term"] in TESTED])
        rows += family
    return rows


def _complete(table: GainTable, clusters: Clusters, known: np.ndarray, settings: Settings) -> Clusters:
    if known.all():
        return clusters
    return Clusters(table.prompt[known], settings.bootstrap, settings.seed)


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


def q3_rows(table: GainTable, settings: Settings, clusters: Clusters) -> tuple[list[Row], list[Row]]:
    """Gap rows, one a (gain measure, K, method), and balance rows, one a (K, control).

    difference, low, high, se, p: of the gap; mean_high_c, mean_low_c: the groups' mean gains; tokens_high, tokens_low,
    q3_tokens; matched: treated tokens with a partner. p_holm, p_bh: over one gain measure.
    """
    rows: list[Row] = []
    balances: list[Row] = []
    for measure in (name for name in GAIN_MEASURES if name in table.gain):
        family: list[Row] = []
        for k in table.ks:
            if ("mass", k) not in table.support:
                continue
            support = table.support["mass", k]
            result = q3_gap(table, unit_scores(table, settings, k), support, table.gain[measure], clusters, settings)
            for method in METHODS:
                gap = result.gaps[method]
                family.append(
                    {"gain": measure, "k": k, "method": method}
                    | gap.row("difference")
                    | {
                        "mean_high_c": result.high.value,
                        "mean_low_c": result.low.value,
                        "tokens_high": result.high.tokens if result.high.value is not None else 0,
                        "tokens_low": result.low.tokens if result.low.value is not None else 0,
                        "matched": result.match.matched if result.match and method != "bootstrap" else None,
                        "q3_tokens": result.q3_tokens,
                    }
                )
            if measure == "absolute":
                balances += [{"k": k} | row for row in result.balance]
        correct(family, "difference_p")
        rows += family
    return rows, balances


def reversion_rows(table: GainTable, settings: Settings, clusters: Clusters, independent: Floats | None) -> list[Row]:
    """check: slopes, null or independent; see regression_to_mean for what each can and cannot exclude.

    slopes: quantity slope, reversion, contraction, kept. null: a row a (quantity, null): observed, under_null, share,
    and value = beyond. adjusted and independent: gaps of the split model.
    """
    gain, scores = table.gain["absolute"], unit_scores(table, settings)
    if np.ptp(gain) == 0:
        return [{"check": "all", "quantity": "", "note": f"all gains are equal ({gain[0]:g})"}]
    if table.before is None or table.after is None:
        return [{"check": "all", "quantity": "", "note": "the file has no KL before and after"}]
    rows: list[Row] = []
    found = slopes(table.before, table.after, clusters)
    if isinstance(found, str):
        rows.append({"check": "slopes", "quantity": "", "note": found})
    else:
        for name in ("slope", "reversion", "contraction", "kept"):
            rows.append({"check": "slopes", "quantity": name} | getattr(found, name).row())
    beyond = beyond_nulls(table, scores, clusters)
    if isinstance(beyond, str):
        rows.append({"check": "null", "quantity": "", "note": beyond})
    else:
        for b in beyond:
            rows.append(
                {
                    "check": "null", "quantity": b.quantity, "null": b.null, "observed": b.observed.value,
                    "under_null": b.under_null.value, "under_null_low": b.under_null.low,
                    "under_null_high": b.under_null.high, "share": b.share,
                }
                | b.beyond.row()
            )  # fmt: skip
    rows += _gap_check("adjusted", "KL before among the controls", adjusted_fit(table, scores, gain, clusters))
    measures = {f"another K: {k}": table.disagreement[k] for k in table.ks if k != table.topk}
    measures |= {
        f"{name} of the same student": table.other[name] for name in ("KLr", "KLr_union") if name in table.other
    }
    if independent is not None:
        measures["D of another student"] = independent
    for label, other in measures.items():
        rows += _independent_rows(label, table, settings, clusters, other)
    return rows


def _independent_rows(label: str, table: GainTable, settings: Settings, clusters: Clusters, other: Floats) -> list[Row]:
    known = np.isfinite(other)
    if not known.all():
        note = f"not known at {int((~known).sum()):,} of {len(known):,} tokens"
        return [{"check": "independent", "quantity": "", "measure": label, "note": note}]
    scores = unit_scores(table, settings, disagreement=other)
    fitted = fit("split", model_terms("split", table, scores), table.gain["absolute"], clusters)
    spread = other.std() > 0 and table.disagreement[table.topk].std() > 0
    correlation = float(np.corrcoef(other, table.disagreement[table.topk])[0, 1]) if spread else None
    return [row | {"correlation": correlation} for row in _gap_check("independent", label, fitted)]


def _gap_check(check: str, label: str, fitted: Fit) -> list[Row]:
    head = {"check": check, "measure": label}
    if not fitted.coefficients:
        return [head | {"quantity": "gap_raw", "tokens": fitted.tokens, "prompts": fitted.prompts, "note": fitted.note}]
    estimates: dict[str, Estimate] = {
        term: c.bootstrap for term in ("learnable", "incompatible") if (c := fitted.coefficient(term)) is not None
    }
    return [
        head | {"quantity": name} | e.row()
        for name, e in (estimates | {"gap": fitted.gap, "gap_raw": fitted.gap_raw}).items()
    ]


def placebo_rows(table: GainTable, settings: Settings, clusters: Clusters) -> list[Row]:
    """placebo: token_hash, shuffled_compatibility (value: beta), and shuffled_gap (value: raw gap, low and high: of the
    shuffled gaps)."""
    gain, scores = table.gain["absolute"], unit_scores(table, settings)
    rows: list[Row] = []
    for name, fitted in placebo_fits(table, scores, gain, clusters).items():
        found = fitted.coefficient("placebo")
        numbers = {"value": found.beta, "low": found.low, "high": found.high, "p": found.p} if found else {}
        rows.append(
            {"placebo": name} | numbers | {"tokens": fitted.tokens, "prompts": fitted.prompts, "note": fitted.note}
        )
    shuffled = shuffle_test(table, scores, gain, clusters)
    rows.append(
        {
            "placebo": "shuffled_gap", "value": shuffled.gap, "low": shuffled.low, "high": shuffled.high,
            "p": shuffled.p, "shuffles": shuffled.shuffles, "tokens": len(table), "prompts": clusters.count,
            "note": shuffled.note,
        }
    )  # fmt: skip
    return rows


TABLES = {
    "gain_summary": ("gains", "Gain"),
    "regression_summary": ("regression", "Regression of standardised gain, clustered by prompt"),
    "q3_bootstrap_matching_summary": ("q3", "Gain of high- less low-support tokens in Q3"),
    "matching_balance": ("balance", "Balance of the matched groups"),
    "bucket_summary": ("buckets", "Residual gain by buckets of each score"),
    "regression_to_mean": ("reversion", "What KL before alone could explain"),
    "placebo_summary": ("placebo", "Features that cannot matter"),
    "position_measures": ("positions", "Measures along the response"),
}
"""File stem -> the field of Analysis and the table's title."""


def write_analysis(analysis: Analysis, directory: Path) -> list[Path]:
    """Every table as CSV, Markdown and LaTeX, and summary.json."""
    paths = []
    where = f"{len(analysis.table):,} tokens of {analysis.clusters.count:,} prompts"
    for stem, (name, title) in TABLES.items():
        paths += write_tables(directory, stem, getattr(analysis, name), f"{title} ({where})")
    return [*paths, write_summary(directory / "summary.json", summary(analysis))]


def summary(analysis: Analysis) -> dict[str, Any]:
    """What summary.json holds: counts, settings, notes, the null check, the rows at the main K of the absolute gain."""
    table, null = analysis.table, analysis.null

    def main(rows: list[Row]) -> list[Row]:
        return [r for r in rows if r.get("gain", "absolute") == "absolute" and r.get("k", table.topk) == table.topk]

    return {
        "name": table.name,
        "tokens": len(table),
        "prompts": analysis.clusters.count,
        "contexts": len(np.unique(table.context)),
        "topk": table.topk,
        "ks": list(table.ks),
        "counts": table.counts,
        "settings": vars(analysis.settings),
        "bootstrap": {"replicates": analysis.clusters.replicates, "cluster": "prompt", "level": 0.95},
        "notes": analysis.notes,
        "null_check": None
        if null is None
        else {
            "passed": null.passed, "largest": null.largest, "not_zero": null.not_zero, "tolerance": null.tolerance,
            **null.mean.row("mean"),
        },
        "gain": analysis.gains,
        "regression": main(analysis.regression),
        "q3": main(analysis.q3),
        "balance": main(analysis.balance),
        "regression_to_mean": analysis.reversion,
        "placebo": analysis.placebo,
        "tables": {stem: len(getattr(analysis, name)) for stem, (name, _) in TABLES.items()},
    }  # fmt: skip
