"""The whole analysis of one gain file: every table of analyze_fixed_context_gain, and summary.json.

Each table is a list of flat rows (see tables.py); their keys are documented where they are made, most in rows/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .bootstrap import Clusters
from .buckets import bucket_rows
from .controls import NullCheck, null_check
from .gain import Floats, GainTable
from .opd_measures import position_rows
from .rows.placebo import placebo_rows
from .rows.q3 import q3_rows
from .rows.regression import regression_rows
from .rows.reversion import reversion_rows
from .settings import DEFAULTS, Settings
from .tables import Row, write_summary, write_tables
from .unit_scores import unit_scores

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
