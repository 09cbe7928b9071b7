"""Distillation losses against a teacher of which only top-k lists are known.

Axes: N rows (response tokens), n of them kept, V' local columns, K entries of a list.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .row_losses import RowResult, check_rows, make_request
from .row_plan import RowPlan
from .row_statistics.function import kernels, of_rows, with_gaps
from .row_statistics.request import Request
from .row_statistics.scalars import FORWARD
from .row_statistics.topk_buckets import FORMS, TeacherList, teacher_list
from .row_statistics.topk_rows import list_gradient, list_losses, read_student
from .support import TopK
from .vocab_parallel import VocabShard


def topk_losses(
    student_logits: Tensor,
    teacher: TopK,
    plan: RowPlan,
    *,
    form: str = "tail",
    keep: Tensor | None = None,
    token_ids: Tensor | None = None,
    shard: VocabShard | None = None,
    teacher_entropy: Tensor | None = None,
) -> RowResult:
    """The plan's loss of each row against lists, and what the same read tells about it; arguments as in row_losses.

    teacher: N lists of full-vocabulary log-probs at temperature 1. form tail: the listed tokens and one bucket for all
    others on both sides, a true divergence. renormalised: both sides on the listed tokens alone. student_full: the
    teacher renormalised on them against the student's full-vocabulary log-probs (arXiv 2603.07079, eq 10), no true
    divergence. A repeated id counts once; ids beyond the vocabulary are not listed; a list above 1 is scaled to 1; an
    empty list gives NaN. forward_kl, reverse_kl and cross_entropy are those of the buckets; teacher_entropy, which
    the gate reads, is the one given, [N], or a lower bound of the whole teacher's at temperature 1, in every form;
    teacher_logprob is NaN where the token is not listed. Raises ValueError on another form, shapes or dtypes that
    do not fit, or a temperature other than 1 with a tail, whose mass at another is not known.
    """
    shard = check_rows(student_logits, keep, token_ids, shard)
    if form not in FORMS:
        raise ValueError(f"form {form!r} of a top-k loss is not one of {', '.join(FORMS)}")
    if len(teacher) != len(student_logits):
        raise ValueError(f"{len(teacher)} top-k lists do not fit {len(student_logits)} rows of logits")
    if form == "tail" and plan.temperature != 1:
        raise ValueError(f"--opd-loss-temperature {plan.temperature} needs a renormalised list: its tail is not known")
    request = make_request(student_logits, plan, keep, token_ids, shard)
    kept = teacher if request.rows is None else teacher.rows(request.rows)
    lists = teacher_list(kept, shard.vocabulary, form, plan.temperature)
    if teacher_entropy is not None:
        exact = teacher_entropy if request.rows is None else teacher_entropy[request.rows]
        lists = replace(lists, entropy=exact.float())
    loss, logprob, entropy, *reported = TopKLosses.apply(student_logits, lists, request)
    if plan.temperature != 1:
        unit = replace(request, plan=RowPlan(FORWARD))
        _, logprob, entropy, *_ = TopKLosses.apply(student_logits, lists, unit)
    teacher_logprob = None
    if token_ids is None:
        logprob = None
    else:
        teacher_logprob = with_gaps(lists.logprob(kept, request.token_ids), request.rows, len(student_logits))
    return RowResult(loss, logprob, entropy, teacher_logprob, *reported)


class TopKLosses(torch.autograd.Function):
    """(student logits [N, V'], lists, request) to float32 [N] each: loss, student log-prob and entropy (at the plan's
    temperature), teacher entropy, KL(Q || S), KL(S || Q), H(Q, S), gate."""

    @staticmethod
    def forward(ctx, student: Tensor, lists: TeacherList, request: Request):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(student)
        read = read_student(student, lists, request, kernels(student))
        ctx.softmax = read.softmax
        outputs, slopes = list_losses(replace(read, softmax=None), lists, request)
        ctx.request, ctx.slopes = request, slopes
        outputs = tuple(with_gaps(values, request.rows, len(student)) for values in outputs)
        ctx.mark_non_differentiable(*outputs[3:])
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, loss: Tensor | None, logprob: Tensor | None, entropy: Tensor | None, *_):
        (student,) = ctx.saved_tensors
        softmax, ctx.softmax = ctx.softmax, None
        upstream = [of_rows(g, ctx.request.rows) for g in (loss, logprob, entropy)]
        return list_gradient(student, softmax, ctx.slopes, ctx.request, upstream, kernels(student)), None, None
