"""Every selector at exactly the same n: what its tokens gained.

Selectors rank by the baseline's scores with ta_opd's own functions and tie rules, over the whole file, with no minimum
per sample, so that n is the only thing they share. The selection is held through the bootstrap: an interval says how
sure the mean gain of these tokens is over prompts, not how the selection would change with other prompts.
"random" is one draw; "random_expected" its mean over all draws, every token with weight n / N.
Axes: N tokens, M selectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from ta_opd import Options
from ta_opd.axes import build_axes
from ta_opd.methods import SELECTORS
from ta_opd.selection import budget, random_keys, select_ranked

from ..replay.selector_replay import StoredTokens, token_scores_of
from .bootstrap import Clusters, absent, correct
from .gain import Floats, GainTable
from .settings import DEFAULTS, Settings
from .tables import Row
from .unit_scores import unit_scores

RATIOS = (0.01, 0.03, 0.05, 0.10)


@dataclass(frozen=True)
class Chosen:
    """weight: float64 [N], 0 or 1 (n / N for the expected random). short: eligible tokens where fewer than n are."""

    name: str
    weight: Floats
    note: str = ""


def select_all(table: GainTable, n: int, settings: Settings = DEFAULTS) -> list[Chosen]:
    """Every selector but full at n tokens, then random_expected. A selector whose scores the file lacks has no token
    and a note; one that restricts itself to fewer than n eligible tokens keeps those, and a note says so."""
    import torch

    size = len(table)
    columns = {
        "Hs": table.entropy, "KLf_union": table.disagreement[table.topk], "Cmass": table.support["mass", table.topk],
    } | ({"KLr": table.other["KLr"]} if "KLr" in table.other else {})  # fmt: skip
    stored = StoredTokens(columns, np.ones(size, np.int8), np.array([size]), np.ones(size, bool))
    options = Options(topk_metrics_k=1, metric_q_low=settings.q_low, metric_q_high=settings.q_high)
    lengths, valid = torch.tensor([size]), torch.ones(size, dtype=torch.bool)
    scores, uniform = token_scores_of(stored), random_keys(settings.seed, 0, size)
    chosen, sample = [], np.zeros(size, np.int64)
    for selector in SELECTORS:
        if selector.mask == "full":
            continue
        names = [name for name in selector.axes if name != "dc"]  # as select_tokens asks for them
        axes = build_axes(scores, valid, lengths, options, names, uniform)
        if "r_tip" in names and not np.isfinite(axes.raw["R"]).any():
            chosen.append(Chosen(selector.name, np.zeros(size), "the file has no base_KLr"))
            continue
        keep = select_ranked(selector.rank(axes, n), n, sample)
        kept = int(keep.sum())
        note = "" if kept == n else f"only {kept:,} tokens are eligible"
        chosen.append(Chosen(selector.name, keep.astype(np.float64), note))
    return [*chosen, Chosen("random_expected", np.full(size, n / size))]


def top_rows(
    table: GainTable, clusters: Clusters, settings: Settings = DEFAULTS, ratios: tuple[float, ...] = RATIOS
) -> tuple[list[Row], list[Row]]:
    """Rows a (ratio, selector), and rows a (ratio, pair of selectors).

    First: n, kept, gain (sum, nats), gain_share (of all tokens' gain, None where that is not above 0), gain_per_kept
    with low, high, se, p, and q3_share, mean_H, mean_D (nats), mean_C, each with _low and _high; prompts: those that
    have a kept token. Second: difference of gain per kept, a less b, on the same replicates, its p corrected over one
    ratio; shared: tokens that both keep, and their jaccard.
    """
    gain, scores = table.gain["absolute"], unit_scores(table, settings)
    facts = {
        "q3_share": scores.in_q3.astype(np.float64),
        "mean_H": table.entropy,
        "mean_D": table.disagreement[table.topk],
        "mean_C": table.support["mass", table.topk],
    }
    rows: list[Row] = []
    pairs: list[Row] = []
    for ratio in ratios:
        n = budget(ratio, len(table))
        chosen = select_all(table, n, settings)
        total = float(gain.sum())
        for c in chosen:
            row = {"ratio": ratio, "n": n, "selector": c.name, "kept": round(float(c.weight.sum()))}
            per_kept = clusters.mean(gain, c.weight)
            summed = float(c.weight @ gain) if per_kept.value is not None else None
            row |= {"gain": summed, "gain_share": summed / total if summed is not None and total > 0 else None}
            row |= per_kept.row("gain_per_kept")
            for name, values in facts.items():
                known = not (name == "q3_share" and scores.no_q3)
                fact = clusters.mean(values, c.weight) if known else absent(scores.no_q3)
                row |= {name: fact.value, f"{name}_low": fact.low, f"{name}_high": fact.high}
            row["note"] = "; ".join(note for note in (c.note, per_kept.note) if note)
            rows.append(row)
        family = []
        for a, b in combinations(chosen, 2):
            both, either = float(np.minimum(a.weight, b.weight).sum()), float(np.maximum(a.weight, b.weight).sum())
            family.append(
                {"ratio": ratio, "n": n, "a": a.name, "b": b.name}
                | clusters.difference(gain, a.weight, b.weight).row("difference")
                | {"shared": both, "jaccard": both / either if either else None}
            )
        correct(family, "difference_p")
        pairs += family
    return rows, pairs
