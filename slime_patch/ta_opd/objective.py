"""The only place that masks and divides: token losses and a token mask to one number, here or inside slime's reducer.

Axes: N response tokens, samples one after another; B samples; G rollouts (a rollout may be split into samples).
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(
    token_losses: Tensor,
    keep: Tensor,
    lengths: Tensor | None = None,
    *,
    normaliser: str = "selected",
    denominator: float | None = None,
) -> Tensor:
    """One differentiable number from losses [N] and a mask, bool [N].

    normaliser "selected": sum of the kept losses / number of kept tokens (TA-OPD eq 7).
    normaliser "sample": mean over the B samples of each one's mean over its kept tokens, 0 for a sample without any
    (slime's default); needs lengths, integer [B], summing to N.
    denominator: the global count of tokens (selected) or samples (sample) when the batch is spread over ranks or
    micro-batches; None counts here. With nothing kept the loss is 0 and can still be back-propagated; what is not
    kept is never multiplied in, so its NaN stays out. Raises ValueError on another normaliser or a keep not bool.
    """
    if keep.dtype != torch.bool:
        raise ValueError(f"keep is a mask, bool [N]; got {keep.dtype}, which would be read as token positions")
    if normaliser == "selected":
        total = token_losses[keep].sum()
        count = int(keep.sum()) if denominator is None else denominator
        return total / max(count, 1)
    if normaliser == "sample":
        if lengths is None:
            raise ValueError("the normaliser 'sample' needs the lengths of the samples")
        sample = torch.repeat_interleave(torch.arange(len(lengths), device=keep.device), lengths)[keep]
        kept = torch.bincount(sample, minlength=len(lengths)).clamp(min=1)
        total = (token_losses[keep] / kept[sample].to(token_losses.dtype)).sum()
        return total / max(len(lengths) if denominator is None else denominator, 1)
    raise ValueError(f"--opd-normaliser {normaliser!r} is not one of selected, sample")


def slime_weights(
    keep: Tensor, loss_mask: Tensor, lengths: Tensor, rollout: Tensor, *, normaliser: str, per_token: bool
) -> Tensor:
    """What to multiply token losses [N] by, float32 [N], so that slime's own mean over `loss_mask` becomes ours over
    `keep`; 0 where not kept.

    keep: bool [N], inside loss_mask, integer or bool [N], the mask slime will divide by. lengths: integer [B], summing
    to N. rollout: integer [B], 0..G-1, the rollout each sample belongs to. per_token: slime runs with
    --calculate-per-token-loss, sum / number of masked tokens; else it takes the mean over rollouts of each one's mean
    over its masked tokens. normaliser "sample": the mean slime takes, over the kept tokens only, so that keeping every
    token weighs exactly 1. normaliser "selected": sum of the kept losses / number of kept tokens of the whole rollout
    batch (TA-OPD eq 7). Raises ValueError on another normaliser.
    """
    if normaliser not in ("selected", "sample"):
        raise ValueError(f"--opd-normaliser {normaliser!r} is not one of selected, sample")
    sample = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    groups = int(rollout.max()) + 1 if len(rollout) else 0
    masked_of_sample = torch.bincount(sample[loss_mask != 0], minlength=len(lengths)).double()
    masked = torch.zeros(groups, dtype=torch.float64).index_add_(0, rollout, masked_of_sample)
    kept = torch.bincount(rollout[sample[keep]], minlength=groups).double()
    if per_token:
        # slime counts an empty sample as one token; only the exact mean undoes that.
        tokens = masked.sum() if normaliser == "sample" else masked_of_sample.clamp(min=1).sum()
        weight = (tokens / kept.sum()).expand(groups)
    elif normaliser == "sample":
        weight = masked / kept
    else:
        weight = masked * groups / kept.sum()
    return torch.where(keep, weight[rollout[sample]], 0).float()
