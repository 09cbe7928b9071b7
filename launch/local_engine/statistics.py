"""Gain on frozen contexts, and how sure it is: a bootstrap over prompts, since tokens of a response hang together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REPLICATES = 4000
_BLOCK = 256


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% percentile interval."""

    mean: float
    low: float
    high: float


def cluster_bootstrap(values: np.ndarray, cluster: np.ndarray, seed: int, replicates: int = REPLICATES) -> Interval:
    """Mean of token values [N] with an interval from resampling whole clusters (prompts), integer [N].

    The mean counts tokens, in each replicate too. With one cluster the interval is the mean itself: it says nothing.
    Raises ValueError for no values, or a value that is not finite.
    """
    if not len(values):
        raise ValueError("a bootstrap needs at least one value")
    if not np.isfinite(values).all():
        raise ValueError(f"a bootstrap over {int((~np.isfinite(values)).sum())} values that are not finite")
    names, cluster = np.unique(cluster, return_inverse=True)
    sums = np.bincount(cluster, weights=values)
    counts = np.bincount(cluster).astype(np.float64)
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [
            (draws @ sums) / (draws @ counts)
            for start in range(0, replicates, _BLOCK)
            for draws in [
                generator.multinomial(
                    len(names), np.full(len(names), 1 / len(names)), size=min(_BLOCK, replicates - start)
                ).astype(np.float64)
            ]
        ]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))
