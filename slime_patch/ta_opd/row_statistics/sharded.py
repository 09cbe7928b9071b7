"""Logits spread over ranks, or on a device with its own kernels: local reads and at most two packed collectives.

Axes: N rows of logits, n of them read, V' local columns. A third collective runs only where TAID in logit space meets a
log-prob below LOG_FLOOR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor

from ..row_plan import Divergence
from ..support import LOG_FLOOR
from ..teacher_head import TeacherHead
from ..vocab_parallel import all_shards, combine_statistics, combined_lse, sum_shards
from .chunks import block_size, row_blocks
from .request import Request
from .scalars import FORWARD, RowScalars, closed_forms, whole_sums, with_base, with_entries

Teacher = Tensor | TeacherHead


def read(student: Tensor, teacher: Teacher, request: Request, kernels: ModuleType) -> RowScalars:
    """The scalars [n] over the whole vocabulary, the same on every rank."""
    plan = request.plan
    x, touches_floor = _first_read(student, teacher, request, kernels)
    # Rows read through every entry, and those whose base divergence alone still needs a read; None: all.
    whole = None if request.prob_space else touches_floor.nonzero()[:, 0]
    by_entries = whole is None or len(whole) > 0
    rest = None if not by_entries else (~touches_floor).nonzero()[:, 0]
    if by_entries and plan.taid_t < 1 and not request.prob_space:

        def target_lse(s: Tensor, t: Tensor, rows: Tensor | None, place: slice) -> Tensor:
            normalisers = x.normalisers[whole][place]
            return kernels.floored_target_lse(s, t, normalisers, rows=rows, **request.first_read)

        local = _per_row(target_lse, student, teacher, request.subset(whole))
        lse, _ = combined_lse(all_shards(request.shard, local))
        x = replace(x, target_lse=x.target_lse.index_copy(0, whole, lse))
    normalisers = x.normalisers

    def sums(divergence: Divergence, chosen: Tensor | None) -> Tensor:
        own = normalisers if chosen is None else normalisers[chosen]

        def entries(s: Tensor, t: Tensor, rows: Tensor | None, place: slice) -> Tensor:
            return kernels.entry_sums(s, t, own[place], divergence, rows=rows, **request.later_reads)

        return _per_row(entries, student, teacher, request.subset(chosen))

    parts = []
    if plan.base is not None and not plan.base.one_read and not request.prob_space:
        parts.append((with_base, rest, sums(plan.base, rest)[:, :2]))
    if by_entries:
        parts.append((with_entries, whole, whole_sums(lambda divergence: sums(divergence, whole), plan)))
    totals = sum_shards(request.shard, [part for _, _, part in parts])
    for (put, rows, _), total in zip(parts, totals, strict=True):
        x = put(x, total, slice(None) if rows is None else rows)
    return x


def write(
    student: Tensor,
    teacher: Teacher,
    request: Request,
    kernels: ModuleType,
    x: RowScalars,
    loss: Tensor | None,
    unit: Tensor | None,
) -> Tensor:
    """The gradient [N, V'] in the logits' dtype of coefficients `loss` at the plan's temperature, for which the teacher
    is read, and `unit` at temperature 1; [n, 6] each, None where nothing is wanted."""
    if loss is not None and unit is not None and request.plan.temperature == 1:
        loss, unit = loss + unit, None
    rebuilt = loss is not None and isinstance(teacher, TeacherHead)
    out = (torch.zeros if rebuilt else torch.empty)(student.shape, dtype=student.dtype, device=student.device)
    if loss is not None:
        add_gradient(out, student, teacher, request, kernels, x.normalisers, loss, first=True)
    if unit is not None:
        normalisers = torch.stack((x.unit_lse, x.teacher_lse, x.target_lse), -1)
        add_gradient(out, student, None, request, kernels, normalisers, unit, first=loss is None)
    return out


def _first_read(student: Tensor, teacher: Teacher, request: Request, kernels: ModuleType) -> tuple[RowScalars, Tensor]:
    """Closed forms, and which rows may touch LOG_FLOOR, bool [n]."""
    plan, tokens = request.plan, request.token_columns
    here, unit_here = _sent(request)

    def statistics(s: Tensor, t: Tensor, rows: Tensor | None, place: slice) -> Tensor:
        own = None if tokens is None else tokens[place]
        parts = [kernels.statistics(s, t, token_columns=own, rows=rows, **request.first_read)[:, here]]
        if unit_here:
            parts.append(kernels.statistics(s, t, token_columns=own, rows=rows, **request.unit_read)[:, unit_here])
        return torch.cat(parts, -1)

    shards = all_shards(request.shard, _per_row(statistics, student, teacher, request))
    whole = combine_statistics(shards[:, :, : len(here)], here)
    unit = combine_statistics(shards[:, :, len(here) :], unit_here) if unit_here else whole
    if plan.taid_t == 1:
        whole[:, [6, 7, 8]] = whole[:, [1, 3, 5]]
    elif request.prob_space:
        whole[:, 6] = whole[:, 1]
    return closed_forms(whole, unit, plan), whole[:, 11] < LOG_FLOOR


def _sent(request: Request) -> tuple[list[int], list[int]]:
    """Columns of STATISTICS that the plan needs of other ranks at its own temperature, and at temperature 1."""
    plan = request.plan
    columns = [0, 1, 3, 11]
    if not request.prob_space:
        columns += [4, 5] if plan.taid_t == 1 else [4, 6, 7, 8]
    labels = [] if request.token_ids is None else [9, 10]
    if plan.temperature == 1:
        return sorted([*columns, 2, *labels]), []
    return sorted(columns), [0, 2, *([1, *labels] if labels else [])]


def _per_row(read: Callable[..., Tensor], student: Tensor, teacher: Teacher, request: Request) -> Tensor:
    """read(s, t, rows of them or None for all, place among the request's rows), joined."""
    if isinstance(teacher, Tensor):
        return read(student, teacher, request.rows, slice(None))
    blocks = list(teacher.blocks(request.rows)) or [(slice(0), slice(0))]
    return torch.cat([read(student[where], teacher.logits(where), None, place) for place, where in blocks])


def add_gradient(
    out: Tensor,
    student: Tensor,
    teacher: Teacher | None,
    request: Request,
    kernels: ModuleType,
    normalisers: Tensor,
    coefficients: Tensor,
    *,
    first: bool,
) -> None:
    """Adds gradient() of these rows, at the plan's temperature, or at temperature 1 where there is no teacher to read.

    first: out holds nothing yet and is written in one go, or zeros where a teacher has to be rebuilt.
    """
    n, head = len(student), isinstance(teacher, TeacherHead)
    labels = teacher is None or request.plan.temperature == 1
    tokens = _spread(request.token_columns, request, n) if labels and request.token_columns is not None else None
    normalisers, coefficients = _spread(normalisers, request, n), _spread(coefficients, request, n)
    settings = request.later_reads if teacher is not None else {**request.unit_read, "taid_space": "logit"}
    plan = request.plan
    divergence = None if teacher is None or plan.base is None or plan.base == FORWARD else plan.base
    if first and not head:
        kernels.gradient(
            student, teacher, normalisers, coefficients, divergence, token_columns=tokens, out=out, **settings
        )
        return
    live = (coefficients != 0).any(-1).nonzero()[:, 0]
    for _, where in teacher.blocks(live) if head else row_blocks(live, n, block_size(student)):
        t = teacher.logits(where) if head else None if teacher is None else teacher[where]
        own = None if tokens is None else tokens[where]
        part = torch.empty_like(student[where])
        kernels.gradient(
            student[where],
            t,
            normalisers[where],
            coefficients[where],
            divergence,
            token_columns=own,
            out=part,
            **settings,
        )
        out[where] += part


def _spread(values: Tensor, request: Request, n: int) -> Tensor:
    """[n of the request, ...] to all N rows, 0 (for coefficients: nothing to write) in those not read."""
    if request.rows is None:
        return values
    return values.new_zeros(n, *values.shape[1:]).index_copy_(0, request.rows, values)
