"""Distillation losses of rows of full logits, both sides' logits read as seldom as the losses allow.

Axes: N rows (response tokens), V' local columns of the vocabulary, all of it unless a VocabShard says otherwise.
The meaning is that of ta_opd.divergences; the logits may be spread over ranks, and rows left out cost nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .row_plan import RowPlan
from .row_statistics.function import RowStatistics
from .row_statistics.request import Request
from .teacher_head import TeacherHead
from .vocab_parallel import VocabShard


class RowResult(NamedTuple):
    """float32 [N] each, nats; NaN in rows that are not kept.

    Differentiable in the student's logits: loss; student_logprob, of the sampled token, and student_entropy, both at
    temperature 1. Without gradient: teacher_logprob at temperature 1; at the plan's temperature teacher_entropy, which
    the gate reads, forward_kl KL(Q || S), reverse_kl KL(S || Q), cross_entropy H(Q, S), which TAID's schedule reads;
    and gate, the weight of the forward KL. Log-probs are None without token ids, NaN at an id that is no token.
    """

    loss: Tensor
    student_logprob: Tensor | None
    student_entropy: Tensor
    teacher_logprob: Tensor | None
    teacher_entropy: Tensor
    forward_kl: Tensor
    reverse_kl: Tensor
    cross_entropy: Tensor
    gate: Tensor


def row_losses(
    student_logits: Tensor,
    teacher_logits: Tensor | TeacherHead,
    plan: RowPlan,
    *,
    keep: Tensor | None = None,
    token_ids: Tensor | None = None,
    shard: VocabShard | None = None,
) -> RowResult:
    """The plan's loss of each row and what the same reads tell about it.

    student_logits: [N, V'], float32, bfloat16 or float16; its gradient has its dtype, float32 inside. teacher_logits:
    [N, V'], log-probs do as well, or a TeacherHead. keep: bool [N]; other rows are not read and get no gradient.
    token_ids: integer [N], global, the sampled tokens. shard: this rank's columns; None has the whole vocabulary.
    Under a shard with a group every rank of it must call with the same rows. Collectives run in the forward alone.
    Raises ValueError on shapes or dtypes that do not fit.
    """
    shard = check_rows(student_logits, keep, token_ids, shard)
    if tuple(teacher_logits.shape) != tuple(student_logits.shape):
        raise ValueError(
            f"teacher logits {tuple(teacher_logits.shape)} do not fit the student's {tuple(student_logits.shape)}"
        )
    request = make_request(student_logits, plan, keep, token_ids, shard)
    head = teacher_logits if isinstance(teacher_logits, TeacherHead) else None
    teacher = None if head is not None else teacher_logits.detach()
    loss, logprob, entropy, teacher_logprob, *reported = RowStatistics.apply(student_logits, teacher, head, request)
    if token_ids is None:
        logprob = teacher_logprob = None
    return RowResult(loss, logprob, entropy, teacher_logprob, *reported)


def check_rows(
    student_logits: Tensor, keep: Tensor | None, token_ids: Tensor | None, shard: VocabShard | None
) -> VocabShard:
    """The shard, the whole vocabulary for None. Raises ValueError on what does not fit the logits."""
    if student_logits.ndim != 2 or student_logits.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(
            f"student logits are float32, bfloat16 or float16 [N, V]; got {student_logits.dtype} "
            f"{tuple(student_logits.shape)}"
        )
    n = len(student_logits)
    if keep is not None and (keep.dtype != torch.bool or keep.shape != (n,)):
        raise ValueError(f"keep is a mask, bool [{n}]; got {keep.dtype} {tuple(keep.shape)}")
    if token_ids is not None and (token_ids.is_floating_point() or token_ids.shape != (n,)):
        raise ValueError(f"token ids are integer [{n}]; got {token_ids.dtype} {tuple(token_ids.shape)}")
    return shard or VocabShard(None, 0, student_logits.shape[1])


def make_request(
    student_logits: Tensor, plan: RowPlan, keep: Tensor | None, token_ids: Tensor | None, shard: VocabShard
) -> Request:
    """What to read: the kept rows, all of them where none is left out."""
    rows = None if keep is None or bool(keep.all()) else keep.nonzero()[:, 0]
    return Request(
        plan,
        shard,
        shard.columns(student_logits.shape[1]),
        rows,
        token_ids if token_ids is None or rows is None else token_ids[rows],
        torch.is_grad_enabled() and student_logits.requires_grad,
    )
