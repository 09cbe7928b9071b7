"""Every number of a row as one autograd node: the logits are read once or twice, a few scalars kept, the rest redone.

Axes: N rows of logits, n of them read; V' local columns.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..teacher_head import TeacherHead
from . import sharded, torch_kernels, triton_kernels
from .one_pass import LEAST_COLUMNS, one_pass
from .request import Request
from .scalars import RowScalars, loss_coefficients, sampled_coefficients, weighed

DIFFERENTIABLE = ("student_logprob", "student_entropy")
REPORTED = ("teacher_logprob", "teacher_entropy", "forward_kl", "reverse_kl", "cross_entropy")


def kernels(logits: Tensor) -> ModuleType:
    """statistics, entry_sums and gradient for this device."""
    if logits.device.type == "cuda" and triton_kernels.AVAILABLE:
        return triton_kernels
    return torch_kernels


class RowStatistics(torch.autograd.Function):
    """(student logits [N, V'], teacher logits [N, V'] or None, head or None, request) to float32 [N] each: loss,
    DIFFERENTIABLE, REPORTED, the gate; NaN in rows that are not read.

    On a CPU that has the whole vocabulary the gradient of the loss is written while a row is in cache and scaled in
    the backward. Elsewhere, on a second backward, or where a sampled log-prob or the entropy has a gradient too, the
    backward recomputes it from the scalars.
    """

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor | None, head: TeacherHead | None, request: Request):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(student, teacher)
        ctx.head, ctx.request, ctx.gradient = head, request, None
        source = teacher if head is None else head
        if _in_one_pass(student, request):
            x, ctx.gradient = one_pass(student, source, request)
        else:
            x = sharded.read(student, source, request, kernels(student))
        ctx.scalars = x = _without_unreal_tokens(x, request)
        loss, _, gate = weighed(request.plan, x.teacher_entropy, x.base, x.forward_kl)
        outputs = [loss, *(getattr(x, name) for name in DIFFERENTIABLE + REPORTED), gate]
        outputs = tuple(with_gaps(values, request.rows, len(student)) for values in outputs)
        ctx.mark_non_differentiable(*outputs[1 + len(DIFFERENTIABLE) :])
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, loss: Tensor | None, logprob: Tensor | None, entropy: Tensor | None, *_):
        student, teacher = ctx.saved_tensors
        request, x = ctx.request, ctx.scalars
        ready, ctx.gradient = ctx.gradient, None
        if loss is not None and logprob is None and entropy is None and ready is not None:
            return scale_rows(ready, loss, request.rows), None, None, None
        del ready
        loss, logprob, entropy = (of_rows(g, request.rows) for g in (loss, logprob, entropy))
        loss_part = None if loss is None else _where_wanted(loss_coefficients(x, request.plan, loss), loss)
        unit_part = None
        if logprob is not None or entropy is not None:
            unit_part = _where_wanted(sampled_coefficients(x, logprob, entropy), logprob, entropy)
        source = teacher if ctx.head is None else ctx.head
        request = request if logprob is not None else replace(request, token_ids=None)
        return sharded.write(student, source, request, kernels(student), x, loss_part, unit_part), None, None, None


def _in_one_pass(student: Tensor, request: Request) -> bool:
    whole = student.device.type == "cpu" and request.shard.group is None and request.columns >= LEAST_COLUMNS
    return whole and not request.prob_space


def _without_unreal_tokens(x: RowScalars, request: Request) -> RowScalars:
    """Log-probs of ids that are no tokens are NaN."""
    if request.token_ids is None:
        return x
    real, names = request.shard.real(request.token_ids), ("student_label", "student_logprob", "teacher_logprob")
    return replace(x, **{name: getattr(x, name).masked_fill(~real, torch.nan) for name in names})


def with_gaps(values: Tensor, rows: Tensor | None, n: int) -> Tensor:
    """[n] of these rows to all N, NaN between."""
    return values if rows is None else values.new_full((n,), torch.nan).index_copy_(0, rows, values)


def of_rows(upstream: Tensor | None, rows: Tensor | None) -> Tensor | None:
    """[N] to the [n] of these rows."""
    return upstream if upstream is None or rows is None else upstream[rows]


def _where_wanted(coefficients: Tensor, *upstream: Tensor | None) -> Tensor:
    """0 where every upstream gradient is 0, whatever the row's scalars."""
    wanted = torch.stack([g != 0 for g in upstream if g is not None]).any(0)
    return torch.where(wanted[:, None], coefficients, 0)


def scale_rows(gradient: Tensor, upstream: Tensor, rows: Tensor | None) -> Tensor:
    """gradient [N, V'] times upstream [N], in place, row by row: a product of two dtypes makes a copy."""
    factors = upstream.tolist()
    for i in range(len(factors)) if rows is None else rows.tolist():
        if factors[i] == 0:
            gradient[i].zero_()
        elif factors[i] != 1:
            gradient[i].mul_(factors[i])
    return gradient
