"""A rollout's numbers as sums and counts, so that ratios stay exact however the samples are spread over ranks.

A statistic is a pair (sum, count); a metric is the sum of sums / the sum of counts, and none where nothing was counted.
Axes: S statistics, B samples, N response tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .scores import TokenScores
from .support import Provenance

SAMPLE_METRICS = (
    "keep_ratio",
    "missing_share",
    "lower_bound_share",
    "entropy",
    "entropy_selected",
    "disagreement",
    "disagreement_selected",
    "compatibility",
    "compatibility_selected",
)
REVERSE_KL_METRICS = ("reverse_kl", "reverse_kl_selected")


def sample_statistics(
    keep: Tensor, valid: Tensor, known: Tensor, lengths: Tensor, scores: TokenScores | None
) -> Tensor:
    """float64 [B, S, 2]: (sum, count) of SAMPLE_METRICS for each sample.

    keep, valid, known: bool [N], distilled, in the loss mask, has a teacher. lengths: integer [B]. scores of the N
    tokens, None where none were computed; their means are over valid (or kept) tokens that have the number.
    keep_ratio: kept / valid. missing_share: valid tokens without a teacher / valid. lower_bound_share: valid tokens
    whose C is only bounded / valid tokens with a C.
    """
    there = (lengths > 0).numpy()
    starts = (lengths.cumsum(0) - lengths).numpy()[there]

    def per_sample(values: Tensor) -> Tensor:
        sums = np.zeros(len(lengths))
        sums[there] = np.add.reduceat(values.numpy(), starts, dtype=np.float64) if len(starts) else 0
        return torch.from_numpy(sums)

    def mean(values: Tensor, over: Tensor) -> tuple[Tensor, Tensor]:
        counted = over & ~values.isnan()
        return per_sample(values.masked_fill(~counted, 0)), per_sample(counted)

    pairs = [(per_sample(keep), per_sample(valid)), (per_sample(valid & ~known), per_sample(valid))]
    if scores is None:
        nothing = torch.zeros(len(lengths), dtype=torch.float64)
        pairs += [(nothing, nothing)] * (len(SAMPLE_METRICS) - len(pairs))
    else:
        bounded = scores.compatibility_provenance == int(Provenance.LOWER_BOUND)
        pairs.append(mean(torch.where(scores.compatibility.isnan(), torch.nan, bounded.float()), valid))
        for values in (scores.entropy, scores.disagreement, scores.compatibility):
            pairs += [mean(values, valid), mean(values, keep)]
    return torch.stack([torch.stack(pair, dim=1) for pair in pairs], dim=1)


def reverse_kl_statistics(
    difference: Sequence[Tensor], valid: Sequence[Tensor], known: Sequence[Tensor], kept: Sequence[Tensor]
) -> Tensor:
    """float64 [2, 2]: (sum, count) of log p_S - log p_T, nats, over valid tokens with a teacher and over kept ones.

    Lists of tensors [R], one for each sample (or a context-parallel rank's share of it).
    """
    result = torch.zeros(2, 2, dtype=torch.float64)
    for values, is_valid, is_known, is_kept in zip(difference, valid, known, kept, strict=True):
        for row, mask in enumerate((is_valid & is_known, is_kept)):
            result[row] += torch.tensor([float(values[mask].double().sum()), float(mask.sum())], dtype=torch.float64)
    return result


def ratios(names: Sequence[str], statistics: Tensor) -> dict[str, float]:
    """Metrics from summed statistics [S, 2]; a name whose count is 0 is left out."""
    return {
        name: float(total / count) for name, (total, count) in zip(names, statistics, strict=True) if float(count) > 0
    }
