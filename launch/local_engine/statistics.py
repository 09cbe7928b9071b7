"""Gain on frozen contexts, and how sure it is: a bootstrap over prompts, since tokens of a response hang together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REPLICATES = 4000
_BLOCK = 256


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% percentile interval; None where a single prompt leaves nothing to resample."""

    mean: float
    low: float | None
    high: float | None


def cluster_bootstrap(values: np.ndarray, cluster: np.ndarray, seed: int, replicates: int = REPLICATES) -> Interval:
    """Mean of token values with an interval from resampling whole clusters (prompts), and runs if there are several.

    values: [N], or [S, N] for S runs over the same tokens, which are resampled independently of the prompts; few runs
    give a rough interval. cluster: integer [N]. The mean counts tokens, in each replicate too. Raises ValueError for no
    values, or a value that is not finite.
    """
    values = np.atleast_2d(values)
    if not values.size:
        raise ValueError("a bootstrap needs at least one value")
    if not np.isfinite(values).all():
        raise ValueError(f"a bootstrap over {int((~np.isfinite(values)).sum())} values that are not finite")
    names, cluster = np.unique(cluster, return_inverse=True)
    sums = np.stack([np.bincount(cluster, weights=run) for run in values])
    counts = np.bincount(cluster).astype(np.float64)
    mean = float(sums.mean(0).sum() / counts.sum())
    if len(names) < 2:
        return Interval(mean, None, None)
    generator, means = np.random.default_rng(seed), []
    for start in range(0, replicates, _BLOCK):
        size = min(_BLOCK, replicates - start)
        prompts = _resample(generator, len(names), size)
        runs = _resample(generator, len(values), size) / len(values)
        means.append(np.einsum("rs,sp,rp->r", runs, sums, prompts) / (prompts @ counts))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Interval(mean, float(low), float(high))


def _resample(generator: np.random.Generator, count: int, size: int) -> np.ndarray:
    """float64 [size, count]: how often each of count things is drawn in count draws with replacement."""
    return generator.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)
