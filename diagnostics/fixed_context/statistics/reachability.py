"""Where disagreement is high, is the teacher's choice within the student's reach, and did that change?

reach: the teacher's first choice is in the student's top K. Before and after training, by quadrant of the baseline, and
the gain of tokens within and out of reach.
"""

from __future__ import annotations

import numpy as np

from .bootstrap import Clusters, absent
from .gain import GainTable
from .settings import DEFAULTS, Settings
from .tables import Row
from .unit_scores import UnitScores, high_disagreement, low_entropy, unit_scores

COLUMNS = ("reach_t1",)
GROUPS = ("all", "Q1_highH_highD", "Q2_highH_lowD", "Q3_lowH_highD", "Q4_lowH_lowD")


def quadrants(table: GainTable, scores: UnitScores, settings: Settings) -> dict[str, np.ndarray]:
    """Name of GROUPS -> bool [N], split as Q3 is everywhere."""
    high_h, high_d = ~low_entropy(scores.h, settings), high_disagreement(scores.d, settings)
    parts = (np.ones(len(table), bool), high_h & high_d, high_h & ~high_d, ~high_h & high_d, ~high_h & ~high_d)
    return dict(zip(GROUPS, parts, strict=True))


def reachability_rows(table: GainTable, settings: Settings = DEFAULTS) -> list[Row]:
    """A row a (group, quantity): reach before, reach after, change, C (mean), gain_reached, gain_unreached and their
    difference, with intervals. A quantity whose column is absent is a row that says so."""
    clusters = Clusters(table.prompt, settings.bootstrap, settings.seed)
    gain, support = table.gain["absolute"], table.support["mass", table.topk]
    before, after = table.other.get("reach_t1"), table.other.get("after:reach_t1")
    rows: list[Row] = []
    scores = unit_scores(table, settings)
    for group, inside in quadrants(table, scores, settings).items():
        head = {"group": group, "k": table.topk, "group_tokens": int(inside.sum())}
        if group != "all" and scores.no_q3:
            rows.append(head | {"quantity": "gain"} | absent(scores.no_q3).row())
            continue
        found = {"C": clusters.mean(support, inside), "gain": clusters.mean(gain, inside)}
        nothing = absent("the file has no base_reach_t1", int(inside.sum()), clusters.count)
        if before is None:
            found |= dict.fromkeys(("reach_before", "gain_reached", "gain_unreached", "gain_difference"), nothing)
        else:
            known = inside & np.isfinite(before)
            reached, out = known & (before > 0), known & (before == 0)
            found |= {
                "reach_before": clusters.mean(before, known),
                "gain_reached": clusters.mean(gain, reached),
                "gain_unreached": clusters.mean(gain, out),
                "gain_difference": clusters.difference(gain, reached, out),
            }
        if before is not None and after is not None:
            known = inside & np.isfinite(before) & np.isfinite(after)
            found |= {
                "reach_after": clusters.mean(after, known),
                "reach_change": clusters.mean(after - before, known),
            }
        rows += [head | {"quantity": name} | e.row() for name, e in found.items()]
    return rows
