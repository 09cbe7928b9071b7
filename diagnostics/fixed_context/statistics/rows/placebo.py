"""Coefficients and gaps of features that cannot matter."""

from __future__ import annotations

from ..bootstrap import Clusters
from ..controls import placebo_fits, shuffle_test
from ..gain import GainTable
from ..settings import Settings
from ..tables import Row
from ..unit_scores import unit_scores


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
