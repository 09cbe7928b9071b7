"""95% intervals cover the planted effect in 93 to 97 of 100 draws. Every draw is a new bank of 100 prompts."""

import numpy as np
import pytest
from fixed_context.statistics.bootstrap import Clusters
from fixed_context.statistics.gain import gain_table
from fixed_context.statistics.regression import fit, model_terms
from fixed_context.statistics.unit_scores import unit_scores

from .planted import planted_frame

DRAWS = 400
SIZE = 0.3
INTERVALS = ("raw gap, bootstrap", "learnable, cluster-robust", "learnable, bootstrap", "mean gain")


@pytest.fixture(scope="module")
def covered():
    """Share of draws whose interval holds the truth, by interval."""
    hits = []
    for seed in range(DRAWS):
        table = gain_table(planted_frame("learnable", prompts=100, tokens=6, seed=seed, ks=(), size=SIZE), 16)
        clusters, scores, gain = Clusters(table.prompt, 400, seed), unit_scores(table), table.gain["absolute"]
        fitted = fit("split", model_terms("split", table, scores), gain, clusters)
        learnable, gap = fitted.coefficient("learnable"), fitted.gap_raw
        size = SIZE * learnable.beta / learnable.raw
        rest = clusters.mean(gain - SIZE * scores.learnable)
        hits.append(
            [
                gap.low <= SIZE <= gap.high,
                learnable.low <= size <= learnable.high,
                learnable.bootstrap.low <= size <= learnable.bootstrap.high,
                rest.low <= 0 <= rest.high,
            ]
        )
    return dict(zip(INTERVALS, np.mean(hits, axis=0), strict=True))


@pytest.mark.parametrize("name", INTERVALS)
def test_intervals_cover_the_truth_in_93_to_97_percent_of_400_draws(covered, name):
    assert 0.93 <= covered[name] <= 0.97
