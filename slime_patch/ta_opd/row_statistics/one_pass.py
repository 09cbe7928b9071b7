"""The whole of a large vocabulary on a CPU: statistics, entries and the gradient of the loss while a row is in cache.

Axes: N rows of logits, n of them read, V' local columns. Rows that may touch LOG_FLOOR are left to sharded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..row_plan import RowPlan
from ..support import LOG_FLOOR
from ..teacher_head import TeacherHead
from . import sharded, torch_kernels
from .block import STATISTICS
from .entries import entries
from .request import Request
from .scalars import FORWARD, REVERSE, RowScalars, closed_forms, loss_coefficients, with_base, with_rows

LEAST_COLUMNS = 8192
"""Fewer are read faster in blocks of rows, whose gradient the backward writes."""


def one_pass(student: Tensor, teacher: Tensor | TeacherHead, request: Request) -> tuple[RowScalars, Tensor | None]:
    """(scalars [n], the gradient of each row's loss [N, V'] in the logits' dtype, None where none is wanted)."""
    plan, columns = request.plan, request.columns
    gradient = None
    if request.with_gradient:
        gradient = (torch.empty if request.rows is None else torch.zeros)(student.shape, dtype=student.dtype)

    def read(i: int, t: Tensor) -> tuple[list[float], list[float], tuple[float, float]]:
        s, t = student[i, :columns].float(), t[:columns].float()
        row = _Row(s, t, plan)
        if gradient is not None:
            row.write_gradient(gradient[i, :columns])
            gradient[i, columns:] = 0
        unit = row if plan.temperature == 1 else _Row(s, t, RowPlan(FORWARD))
        return row.statistics, unit.statistics, row.sums

    every = [read(i, t) for i, t in _teacher_rows(student, teacher, request.rows)]
    statistics, unit, sums = (list(column) for column in zip(*every, strict=True)) if every else ([], [], [])
    statistics = torch.tensor(statistics).view(-1, STATISTICS)
    unit = torch.tensor(unit).view(-1, STATISTICS)
    if request.token_ids is not None:
        for label, logits in ((9, student), (10, teacher)):
            unit[:, label] = _labels(logits, request)
    x = closed_forms(statistics, unit, plan)
    if plan.base is not None and not plan.base.one_read:
        x = with_base(x, torch.tensor(sums).view(-1, 2), slice(None))
    return _redo_at_floor(student, teacher, request, x, statistics[:, 11] < LOG_FLOOR, gradient), gradient


def softmax_pass(
    student: Tensor, request: Request, listed: Tensor, chosen: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(log-sum-exp, E_S[s] and what torch's softmax sums to [n, 3], the probability of what is not chosen [n], that
    softmax [N, V'] in the logits' dtype where a gradient is wanted) at the plan's temperature.

    listed: int64 [n, K], columns; chosen: bool [n, K], each column once, which of them count. Where they count the
    softmax is 0.
    """
    columns, temperature = request.columns, request.plan.temperature
    softmax = None
    if request.with_gradient:
        softmax = (torch.empty if request.rows is None else torch.zeros)(student.shape, dtype=student.dtype)
    some = chosen.any(-1)
    # Entries that do not count repeat one that does.
    first = listed.gather(1, chosen.int().argmax(-1, keepdim=True)) if listed.shape[1] else listed
    listed, some = torch.where(chosen, listed, first), some.tolist()
    read, rest = [], []
    for k, i in enumerate(range(len(student)) if request.rows is None else request.rows.tolist()):
        z = student[i, :columns].float()
        z = z if temperature == 1 else z / temperature
        whole = softmax is not None and softmax.dtype == z.dtype and columns == student.shape[1]
        p = torch.softmax(z, 0, out=softmax[i] if whole else None)
        lse, mean, counted = z.amax().item() - math.log(p.amax().item()), _dot(p, z), 0.0
        if math.isnan(mean):
            mean = _dot(p, z.masked_fill(z == -torch.inf, 0))
        if some[k]:
            counted = p[listed[k]].masked_fill(~chosen[k], 0).sum().item()
            p.scatter_(0, listed[k], 0)
        uncounted = p.sum().item()
        total = counted + uncounted  # see _softmax
        read.append((lse + math.log(total), mean / total, total))
        rest.append(uncounted / total)
        if softmax is not None and not whole:
            softmax[i, :columns] = p
            softmax[i, columns:] = 0
    return torch.tensor(read).view(-1, 3), torch.tensor(rest), softmax


class _Row:
    """One row in float32 [V], its sums as Python numbers; statistics: see block.STATISTICS, labels left out; sums:
    sum e and sum u of a base divergence that is not one_read."""

    def __init__(self, s: Tensor, t: Tensor, plan: RowPlan) -> None:
        self.plan = plan
        if plan.temperature != 1:
            s, t = s / plan.temperature, t / plan.temperature
        self.p, s_lse = _softmax(s)
        self.q, t_lse = p_t, _ = _softmax(t)
        self.gap = s - t
        t_mean, t_gap = _dot(p_t, t), -_dot(p_t, self.gap)
        q_lse, q_mean, q_gap = t_lse, t_mean, t_gap
        if plan.taid_t < 1:
            mixed = torch.lerp(s, t, plan.taid_t)
            self.q, q_lse = _softmax(mixed)
            q_mean, q_gap = _dot(self.q, mixed), -_dot(self.q, self.gap)
        lowest = min(s.amin().item() - s_lse, t.amin().item() - t_lse)
        means = _dot(self.p, s), t_mean, _dot(self.p, self.gap), t_gap
        self.statistics = [s_lse, t_lse, *means, q_lse, q_mean, q_gap, 0.0, 0.0, lowest]
        self.sums, self.slopes = (math.nan, math.nan), None
        if plan.base is not None and not plan.base.one_read:
            self._read_entries(s_lse, q_lse, q_gap)

    def _read_entries(self, s_lse: float, q_lse: float, q_gap: float) -> None:
        base, t = self.plan.base, self.plan.taid_t
        self.plain_jsd = base.kind == "jsd" and base.clip == math.inf
        if not self.plain_jsd:
            e, self.slopes = entries(base, self.p, self.q, (self.gap if t == 1 else self.gap * t) - (s_lse - q_lse))
            self.sums = e.sum().item(), self.slopes.sum().item()
            return
        # With r = M / S: JSD = w (KL(Q || S) - sum q log r) - (1 - w) sum p log r, and u = -(1 - w) p log r.
        w = base.weight
        self.slopes = (self.q / self.p).mul_(w).add_(1 - w).log_()
        slope = (w - 1) * _dot(self.p, self.slopes)
        forward_kl = t * q_gap - q_lse + s_lse
        self.sums = slope + w * (forward_kl - _dot(self.q, self.slopes)), slope

    def write_gradient(self, out: Tensor) -> None:
        """ds = w_base (u - p sum u) + w_forward (p - q), over the temperature, into out [V]."""
        plan, p = self.plan, self.p
        base = forward = scale = 1 / plan.temperature
        if plan.gate is not None:
            entropy = torch.tensor(self.statistics[1] - self.statistics[3])
            base, forward = (scale * weight.item() for weight in plan.gate.weights(entropy))
        ds = out if out.dtype == p.dtype else torch.empty_like(p)
        if plan.base is None or plan.base == FORWARD:
            torch.sub(p, self.q, out=ds)
            base = forward if plan.base is None else base
        elif plan.base == REVERSE:
            torch.sub(self.gap, self.statistics[4], out=ds).mul_(p)
            base *= plan.taid_t
        elif self.plain_jsd:
            torch.sub(self.slopes, self.sums[1] / (plan.base.weight - 1), out=ds).mul_(p)
            base *= plan.base.weight - 1
        else:
            torch.sub(self.slopes, p, alpha=self.sums[1], out=ds)
        if base != 1:
            ds.mul_(base)
        if plan.gate is not None and plan.base is not None and forward != 0:
            ds.add_(p - self.q, alpha=forward)
        if ds is not out:
            out.copy_(ds)


def _softmax(z: Tensor) -> tuple[Tensor, float]:
    """(softmax [V], log-sum-exp). torch's softmax adds up a long row one after another, which is off by up to 1e-3; its
    sum does not, and puts that right."""
    p = torch.softmax(z, 0)
    total = p.sum().item()
    lse = z.amax().item() - math.log(p.amax().item()) + math.log(total)
    return p.mul_(1 / total), lse


def _dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a, b).item()


def _teacher_rows(student: Tensor, teacher: Tensor | TeacherHead, rows: Tensor | None) -> Iterator[tuple[int, Tensor]]:
    """(row of the logits, its teacher logits [V'])."""
    if isinstance(teacher, Tensor):
        for i in range(len(student)) if rows is None else rows.tolist():
            yield i, teacher[i]
        return
    for _, where in teacher.blocks(rows):
        chosen = range(where.start, where.stop) if isinstance(where, slice) else where.tolist()
        yield from zip(chosen, teacher.logits(where), strict=True)


def _labels(logits: Tensor | TeacherHead, request: Request) -> Tensor:
    """[n], the sampled tokens' logits, those of column 0 for an id that is no token."""
    tokens = request.token_columns.clamp(min=0)
    rows = torch.arange(len(tokens)) if request.rows is None else request.rows
    if isinstance(logits, Tensor):
        return logits[rows, tokens].float()
    return (logits.hidden[rows] * logits.weight[tokens]).float().sum(-1)


def _redo_at_floor(
    student: Tensor,
    teacher: Tensor | TeacherHead,
    request: Request,
    x: RowScalars,
    touches_floor: Tensor,
    gradient: Tensor | None,
) -> RowScalars:
    if not bool(touches_floor.any()):
        return x
    chosen = touches_floor.nonzero()[:, 0]
    few = request.subset(chosen)
    exact = sharded.read(student, teacher, few, torch_kernels)
    if gradient is not None:
        gradient[few.rows] = 0
        coefficients = loss_coefficients(exact, request.plan, torch.ones(len(chosen)))
        sharded.add_gradient(
            gradient, student, teacher, few, torch_kernels, exact.normalisers, coefficients, first=False
        )
    return with_rows(x, exact, chosen)
