"""Gain of high- less low-support tokens within Q3, and how alike the matched groups are."""

from __future__ import annotations

from ..bootstrap import Clusters, correct
from ..gain import GAIN_MEASURES, GainTable
from ..q3_gap import METHODS, q3_gap
from ..settings import Settings
from ..tables import Row
from .by_k import each_k


def q3_rows(table: GainTable, settings: Settings, clusters: Clusters) -> tuple[list[Row], list[Row]]:
    """Gap rows, one a (gain measure, K, method), and balance rows, one a (K, control).

    difference, low, high, se, p: of the gap; mean_high_c, mean_low_c: the groups' mean gains; tokens_high, tokens_low,
    q3_tokens; matched: treated tokens with a partner. p_holm, p_bh: over one gain measure.
    """
    rows: list[Row] = []
    balances: list[Row] = []
    for measure in (name for name in GAIN_MEASURES if name in table.gain):
        family: list[Row] = []
        for k, part, scores, prompts in each_k(table, settings, clusters):
            support = part.support["mass", k]
            result = q3_gap(part, scores, support, part.gain[measure], prompts, settings)
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
