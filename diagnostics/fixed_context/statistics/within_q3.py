"""Within Q3 only: does support separate what was learned where disagreement is high and the student is sure?

Outside Q3 entropy and disagreement could carry C's coefficient; here both are nearly fixed. Axes: N tokens of Q3.
"""

from __future__ import annotations

import numpy as np

from .bootstrap import Clusters, absent, correct
from .gain import Floats, GainTable
from .q3_gap import METHODS, q3_gap
from .regression import fit, standardised
from .settings import DEFAULTS, Settings
from .tables import Row
from .unit_scores import UnitScores, unit_scores

PARTS = 4
MEASURES = ("absolute", "winsorised")


def within_q3_rows(table: GainTable, settings: Settings = DEFAULTS) -> tuple[list[Row], list[Row]]:
    """Rows a (gain measure, quantity) and rows a (gain measure, quarter of Q3 by C).

    quantity: compatibility and learnable (standardised coefficients within Q3 beside entropy, disagreement, position
    and teacher entropy), and the three gaps of q3_gap. Quarters: mean gain, C, D, H with n.
    """
    clusters = Clusters(table.prompt, settings.bootstrap, settings.seed)
    scores = unit_scores(table, settings)
    inside, head = scores.in_q3, {"k": table.topk}
    support = table.support["mass", table.topk]
    rows: list[Row] = []
    parts: list[Row] = []
    for measure in MEASURES:
        gain = table.gain[measure]
        family = [
            {"gain": measure, "quantity": name} | row for name, row in _regressions(table, scores, gain, settings)
        ]
        gaps = q3_gap(table, scores, support, gain, clusters, settings).gaps
        family += [{"gain": measure, "quantity": f"gap_{method}"} | gaps[method].row() for method in METHODS]
        for row in family:
            row["q3_tokens"] = int(inside.sum())
        correct(family)
        rows += [head | row for row in family]
        if inside.any():
            parts += [head | {"gain": measure} | row for row in _quarters(table, inside, support, gain, clusters)]
    return rows, parts


def _regressions(table: GainTable, scores: UnitScores, gain: Floats, settings: Settings) -> list[tuple[str, Row]]:
    inside = scores.in_q3
    out = []
    for name, values in (("compatibility", scores.c), ("learnable", scores.learnable)):
        if not inside.any():
            out.append((name, absent(scores.no_q3).row()))
            continue
        h, d = scores.h[inside], scores.d[inside]
        terms = {
            "entropy": h,
            "disagreement": d,
            "entropy_x_disagreement": standardised(h) * standardised(d),
            "position": table.position[inside],
            "teacher_entropy": table.teacher_entropy[inside],
            name: values[inside],
        }
        fitted = fit(
            f"within_q3_{name}", terms, gain[inside], Clusters(table.prompt[inside], settings.bootstrap, settings.seed)
        )
        found = fitted.coefficient(name)
        estimate = found.bootstrap if found else absent(fitted.note, fitted.tokens, fitted.prompts)
        out.append((name, estimate.row()))
    return out


def _quarters(table: GainTable, inside: np.ndarray, support: Floats, gain: Floats, clusters: Clusters) -> list[Row]:
    edges = np.unique(np.quantile(support[inside], np.linspace(0, 1, PARTS + 1)))
    place = np.clip(np.searchsorted(edges, support, side="right") - 1, 0, max(len(edges) - 2, 0))
    rows = []
    for part in range(max(len(edges) - 1, 1)):
        here = inside & (place == part)
        if here.any():
            means = {
                "mean_C": float(support[here].mean()),
                "mean_D": float(table.disagreement[table.topk][here].mean()),
                "mean_H": float(table.entropy[here].mean()),
            }
            rows.append({"quarter": part + 1} | means | clusters.mean(gain, here).row("mean"))
    return rows
