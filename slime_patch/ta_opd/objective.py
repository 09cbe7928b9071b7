"""The only place that masks and divides: token losses and a token mask to one number.

Axes: N response tokens, samples one after another; B samples.
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
