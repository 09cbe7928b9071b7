"""Gain by buckets of a score, after what other scores explain linearly has been taken out.

The residual is that of a regression of the gain on the controls of the bucketed score; buckets hold equal shares of the
tokens. A straight rise over the buckets is what a coefficient sums up; anything else is what it hides.
"""

from __future__ import annotations

import numpy as np

from .bootstrap import Clusters, absent
from .gain import Floats, GainTable
from .regression import standardised
from .unit_scores import UnitScores

BUCKETS = 10
_ALWAYS = ("position", "teacher_entropy")
CONTROLS = {
    "entropy": ("disagreement", *_ALWAYS),
    "disagreement": ("entropy", *_ALWAYS),
    "compatibility": ("entropy", "disagreement", "entropy_x_disagreement", *_ALWAYS),
    "learnable": ("entropy", "incompatible", *_ALWAYS),
    "incompatible": ("entropy", "learnable", *_ALWAYS),
}
"""Bucketed score -> what is taken out of the gain first."""


def bucket_rows(
    table: GainTable, scores: UnitScores, gain: Floats, clusters: Clusters, buckets: int = BUCKETS
) -> list[dict]:
    """A row a (score, bucket): bounds and mean of the score, mean gain and mean residual gain with intervals.

    Buckets that share a bound because many tokens have one value are merged; a constant score has one row without
    numbers.
    """
    terms = {
        "entropy": scores.h,
        "disagreement": scores.d,
        "compatibility": scores.c,
        "learnable": scores.learnable,
        "incompatible": scores.incompatible,
        "entropy_x_disagreement": standardised(scores.h) * standardised(scores.d),
        "position": table.position,
        "teacher_entropy": table.teacher_entropy,
    }
    rows = []
    for score, controls in CONTROLS.items():
        values = terms[score]
        edges = np.unique(np.quantile(values, np.linspace(0, 1, buckets + 1)))
        if len(edges) < 2:
            note = f"constant: {score}"
            rows.append({"score": score, "bucket": 0} | absent(note, len(values), clusters.count).row("residual"))
            continue
        residual = residuals(gain, [terms[name] for name in controls])
        place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        for bucket in range(len(edges) - 1):
            inside = place == bucket
            if not inside.any():
                continue
            plain = clusters.mean(gain, inside)
            rows.append(
                {
                    "score": score,
                    "bucket": bucket,
                    "score_low": float(edges[bucket]),
                    "score_high": float(edges[bucket + 1]),
                    "score_mean": float(values[inside].mean()),
                    "gain": plain.value,
                    "gain_low": plain.low,
                    "gain_high": plain.high,
                }
                | clusters.mean(residual, inside).row("residual")
            )
    return rows


def residuals(values: Floats, controls: list[Floats]) -> Floats:
    """values [N] less their least-squares fit on a constant and the controls [N]; constant controls change nothing."""
    x = np.column_stack([np.ones(len(values)), *(standardised(c) for c in controls)])
    return values - x @ np.linalg.lstsq(x, values, rcond=None)[0]
