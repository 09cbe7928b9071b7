"""What the trainer needs of a response, as rows of float32 that ride on slime's `teacher_log_probs`.

slime carries, splits and context-parallel-slices that field by its first axis and never looks at a second one. Two
columns, 8 bytes a token: the teacher's log-prob (NaN: no teacher) and a weight, which is 0 on a valid token that is not
distilled and -1 on a token that may not be trained on at all. A loss of whole distributions adds the teacher's top-k
list, K columns of ids and K of log-probs, 8 bytes an entry.
Axes: R response tokens (or a context-parallel rank's share of them); K entries of a list.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .support import TopK

COLUMNS = ("teacher_logprob", "weight")
ID_LIMIT = 2**24
"""Whole numbers below it are exact in float32."""
_NOT_VALID = -1.0


@dataclass(frozen=True)
class Carried:
    """teacher_logprob: float32 [R], nats, NaN where there is none. weight: float32 [R], 0 or more, by which a token's
    loss is multiplied. valid: bool [R], the token was in the sample's loss mask before selection. topk: the teacher's
    lists, R rows, None where none were packed. known: bool [R], the teacher's log-prob is finite."""

    teacher_logprob: Tensor
    weight: Tensor
    valid: Tensor
    topk: TopK | None = None

    @property
    def known(self) -> Tensor:
        return self.teacher_logprob.isfinite()

    @property
    def kept(self) -> Tensor:
        return self.weight > 0


def pack(teacher_logprob: Tensor, weight: Tensor, valid: Tensor, topk: TopK | None = None) -> Tensor:
    """float32 [R, 2], or [R, 2 + 2K] with lists. A weight above 0 needs a valid token with a finite teacher log-prob
    and, where there are lists, an entry in its own: invariants. Raises ValueError for an id of 2**24 or more, which
    float32 cannot hold."""
    weighted = weight > 0
    assert bool((valid & teacher_logprob.isfinite())[weighted].all()), "a distilled token is valid and has a teacher"
    assert bool((weight >= 0).all()), "weights are 0 or more"
    columns = [teacher_logprob.float()[:, None], torch.where(valid, weight.float(), _NOT_VALID)[:, None]]
    if topk is not None:
        assert bool((topk.ids[weighted] >= 0).any(1).all()), "a distilled token has a list"
        if topk.ids.numel() and int(topk.ids.max()) >= ID_LIMIT:
            raise ValueError(f"token id {int(topk.ids.max())}: a vocabulary of at most {ID_LIMIT} can be carried")
        columns += [topk.ids.float(), topk.logprobs.float()]
    return torch.cat(columns, dim=1)


def unpack(rows: Tensor, loss_mask: Tensor | None = None) -> Carried:
    """The parts of rows [R, 2] or [R, 2 + 2K]; of plain log-probs [R] too (a teacher inside the trainer), which are
    valid by `loss_mask`, bool [R], and weigh 1 where they are known.

    Raises ValueError on another shape.
    """
    if rows.ndim == 1 and loss_mask is not None:
        return Carried(rows, (rows.isfinite() & loss_mask).to(rows.dtype), loss_mask)
    if rows.ndim != 2 or rows.shape[1] < len(COLUMNS) or rows.shape[1] % 2:
        raise ValueError(
            f"teacher_log_probs has shape {tuple(rows.shape)}; this trainer reads [R] or [R, {len(COLUMNS)}] "
            "or [R, 2 + 2K]"
        )
    topk = None
    if rows.shape[1] > len(COLUMNS):
        ids, logprobs = rows[:, len(COLUMNS) :].chunk(2, dim=1)
        topk = TopK(ids.to(torch.int32), logprobs)
    return Carried(rows[:, 0], rows[:, 1].clamp_min(0), rows[:, 1] >= 0, topk)
