"""The student's side of a top-k loss: one read of its logits, the buckets' sums over the ranks, and the gradient.

Axes: N rows, n of them read, V' local columns, K entries of a list. A bucket's sums never leave as K values: one
all-gather carries six numbers a row and one all-reduce six.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from ..support import LOG_FLOOR
from ..vocab_parallel import all_shards, combined_lse, sum_shards
from .function import scale_rows
from .one_pass import LEAST_COLUMNS, softmax_pass
from .request import Request
from .scalars import weighed
from .topk_buckets import LEAST_TAIL, TeacherList, bucket_sums, target


@dataclass(frozen=True)
class StudentRead:
    """columns: int64 [n, K], the listed ids' local columns, -1 where not here or not listed. logits: [n, K], over the
    temperature, 0 where not here. lse, mean, label, list_lse: [n] over the whole vocabulary, list_lse of the listed
    logits. tail: [n], the probability of what is not listed. mixed_lse: [n], log-sum-exp of the listed
    (1 - taid_t) s + taid_t log q. lowest: [n], the least listed logit. total: [n], what the softmax sums to
    with the listed. softmax: [N, V'], 0 at the listed, or None."""

    columns: Tensor
    logits: Tensor
    lse: Tensor
    mean: Tensor
    label: Tensor
    list_lse: Tensor
    tail: Tensor
    mixed_lse: Tensor
    lowest: Tensor
    total: Tensor
    softmax: Tensor | None

    @property
    def here(self) -> Tensor:
        return self.columns >= 0


@dataclass(frozen=True)
class Slopes:
    """For upstream 1 of the loss: ds = p everywhere[n] in all columns, and at_ids [n, K] more at the listed ones.
    p: [n, K], the student's probabilities there."""

    read: StudentRead
    p: Tensor
    at_ids: Tensor
    everywhere: Tensor
    entropy: Tensor


def read_student(student: Tensor, lists: TeacherList, request: Request, kernels: ModuleType) -> StudentRead:
    """One read, one all-gather."""
    plan, shard, tokens = request.plan, request.shard, request.token_columns
    columns = shard.local(lists.ids, request.columns).masked_fill(~lists.listed, -1)
    here = columns >= 0
    rows = torch.arange(len(student), device=student.device) if request.rows is None else request.rows
    logits = _at(student, rows[:, None], columns) / plan.temperature
    softmax = tail = None
    label = torch.zeros(len(rows), device=student.device)
    if tokens is not None:
        label = _at(student, rows, tokens) / plan.temperature
    if student.device.type == "cpu" and shard.group is None and request.columns >= LEAST_COLUMNS:
        read, tail, softmax = softmax_pass(student, request, columns.clamp(min=0), here)
        lse, mean, total = read.unbind(-1)
    else:
        settings = {"columns": request.columns, "temperature": plan.temperature, "taid_t": 1.0}
        statistics = kernels.statistics(student, None, token_columns=None, rows=request.rows, **settings)
        lse, mean, total = statistics[:, 0], statistics[:, 2], torch.ones_like(statistics[:, 0])
    list_lse = _lse(logits, here)
    mixed = _lse(torch.lerp(logits, lists.log_q, plan.taid_t), here)
    lowest = logits.masked_fill(~here, torch.inf).amin(-1) if logits.shape[1] else lse
    shards = all_shards(shard, torch.stack((lse, mean, label, list_lse, mixed, lowest), -1))
    lse, share = combined_lse(shards[..., 0])
    mean, label = (share * shards[..., 1]).sum(0), shards[..., 2].sum(0)
    list_lse, mixed, lowest = shards[..., 3].logsumexp(0), shards[..., 4].logsumexp(0), shards[..., 5].amin(0)
    tail = -torch.expm1(list_lse - lse) if tail is None else tail
    return StudentRead(columns, logits, lse, mean, label, list_lse, tail, mixed, lowest, total, softmax)


def list_losses(x: StudentRead, lists: TeacherList, request: Request) -> tuple[tuple[Tensor, ...], Slopes]:
    """(loss, student log-prob and entropy, teacher entropy, KL(Q || S), KL(S || Q), H(Q, S), gate) [n] each, and what
    the gradient needs; one all-reduce."""
    plan = request.plan
    unknown, here = lists.empty, x.here
    on_list = lists.form == "renormalised"
    logits, fixed, list_lse = x.logits, x.logits == -torch.inf, x.list_lse
    if lists.form != "tail":
        # Listed tokens that are all impossible count alike.
        impossible = list_lse == -torch.inf
        logits = logits.masked_fill(impossible[:, None], 0)
        list_lse = torch.where(impossible, lists.listed.sum(-1).log(), list_lse)
    log_s = (logits - (list_lse if on_list else x.lse)[:, None]).clamp(min=LOG_FLOOR)
    own = log_s if lists.form != "student_full" else (logits - list_lse[:, None]).clamp(min=LOG_FLOOR)
    tail = x.tail.clamp(min=LEAST_TAIL)
    mixed_lse = _mixed_lse(x, lists, request, own, list_lse, tail)
    log_q = target(own, lists.log_q, mixed_lse, plan)
    listed = bucket_sums(log_s, log_q, here, fixed, plan)
    (sums,) = sum_shards(request.shard, [listed.packed])
    if lists.log_tail is not None:
        log_tail = tail.log()[:, None]
        log_q_tail = target(log_tail, lists.log_tail[:, None], mixed_lse, plan)
        rest = bucket_sums(log_tail, log_q_tail, here.new_ones(len(tail), 1), (x.tail < LEAST_TAIL)[:, None], plan)
        values = sums[:, :4] + rest.packed[:, :4]
    else:
        rest, values = None, sums[:, :4]
    if lists.form == "tail":
        # Rounding may not push a divergence below 0; only a clip may.
        values[:, 1:3] = values[:, 1:3].clamp(min=0)
        if plan.base is not None and plan.base.clip == math.inf:
            values[:, 0] = values[:, 0].clamp(min=0)
    base, forward, reverse, cross = values.masked_fill(unknown[:, None], torch.nan).unbind(-1)
    entropy_t = lists.entropy.masked_fill(unknown, torch.nan)
    loss, base_weight, forward_weight = weighed(plan, entropy_t, base, forward)
    slopes = base_weight[:, None] * listed.base_slope + forward_weight[:, None] * listed.forward_slope
    slope = base_weight * sums[:, 4] + forward_weight * sums[:, 5]
    p = torch.where(here, (x.logits - x.lse[:, None]).exp(), 0)
    if rest is not None:
        # d log tail / d log p_k = -p_k / tail
        tail_slope = base_weight * rest.base_slope[:, 0] + forward_weight * rest.forward_slope[:, 0]
        at_ids = slopes - p * (tail_slope / tail)[:, None]
        everywhere = tail_slope / tail * (1 - tail) - slope
    elif on_list:
        at_ids = (slopes - log_s.exp() * slope[:, None]).masked_fill(fixed | ~here, 0)
        everywhere = torch.where(unknown, torch.nan, torch.zeros_like(slope))
    else:
        at_ids, everywhere = slopes, -slope
    student_entropy = x.lse - x.mean
    logprob = (x.label - x.lse).clamp(min=LOG_FLOOR)
    if request.token_ids is not None:
        logprob = logprob.masked_fill(~request.shard.real(request.token_ids), torch.nan)
    outputs = (loss, logprob, student_entropy, entropy_t, forward, reverse, cross, forward_weight)
    return outputs, Slopes(x, p, at_ids, everywhere, student_entropy)


def list_gradient(
    student: Tensor,
    softmax: Tensor | None,
    x: Slopes,
    request: Request,
    upstream: list[Tensor | None],
    kernels: ModuleType,
) -> Tensor:
    """The gradient [N, V'] for upstream [n] of loss, log-prob and entropy (None: 0); a softmax given is used up."""
    read, temperature = x.read, request.plan.temperature
    zero = torch.zeros_like(x.everywhere)
    loss, logprob, entropy = (zero if g is None else g for g in upstream)
    a = torch.where(loss == 0, 0, loss * x.everywhere)
    at_ids = torch.where(loss[:, None] == 0, 0, loss[:, None] * x.at_ids)
    if request.token_ids is not None:
        constant = (read.label == -torch.inf) | ~request.shard.real(request.token_ids)
        logprob = logprob.masked_fill(constant, 0)
    a = a - logprob + torch.where(entropy == 0, 0, entropy * (read.lse - x.entropy))
    rows = torch.arange(len(student), device=student.device) if request.rows is None else request.rows
    tokens = request.token_columns
    if softmax is not None and upstream[2] is None:
        everywhere = a.new_zeros(len(student)).index_copy_(0, rows, a / (temperature * read.total))
        out = scale_rows(softmax, everywhere, request.rows)
        if tokens is not None and upstream[1] is not None:
            _put(out, rows, tokens, ((read.label - read.lse).exp() * a + logprob) / temperature)
    else:
        # A softmax is of no use to the entropy's gradient, but its memory is.
        out = torch.empty_like(student) if softmax is None else softmax
        whole = a.new_zeros(len(student), 9)
        whole[rows] = torch.stack((read.lse, zero, zero, a, zero, -entropy, zero, logprob, zero), -1)
        own = None
        if tokens is not None and upstream[1] is not None:
            own = tokens.new_full((len(student),), -1).index_copy_(0, rows, tokens)
        settings = {"columns": request.columns, "temperature": temperature, "taid_t": 1.0, "taid_space": "logit"}
        kernels.gradient(student, None, whole[:, :3], whole[:, 3:], None, token_columns=own, out=out, **settings)
    values = x.p * (a[:, None] - entropy[:, None] * read.logits.masked_fill(read.logits == -torch.inf, 0)) + at_ids
    if tokens is not None:
        values = values + torch.where(read.columns == tokens[:, None], logprob[:, None], 0)
    _put(out, rows[:, None].expand_as(values), read.columns, values / temperature)
    return out


def _mixed_lse(
    x: StudentRead, lists: TeacherList, request: Request, own: Tensor, list_lse: Tensor, tail: Tensor
) -> Tensor | None:
    """[n, 1], what normalises TAID's geometric target over the buckets; own: [n, K], student log-probs it is made of.

    Over ranks the floor shows only after the all-gather: where a listed token lies below it, one more follows.
    """
    t = request.plan.taid_t
    if t == 1 or request.plan.taid_space == "prob":
        return None
    norm = x.lse if lists.form == "tail" else list_lse
    if request.shard.group is None or bool((x.lowest - norm < LOG_FLOOR).any()):
        mixed = _lse(torch.lerp(own, lists.log_q, t), x.here)
        mixed = all_shards(request.shard, mixed[:, None])[..., 0].logsumexp(0)
    else:
        mixed = x.mixed_lse - (1 - t) * norm
    if lists.log_tail is not None:
        mixed = torch.logaddexp(mixed, torch.lerp(tail.log(), lists.log_tail, t))
    return mixed[:, None]


def _at(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """float32 logits at local columns, 0 where the column is -1."""
    if not logits.shape[1]:
        return torch.zeros(columns.shape, device=logits.device)
    return logits[rows, columns.clamp(min=0)].float().masked_fill(columns < 0, 0)


def _put(out: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> None:
    here = columns >= 0
    out[rows[here], columns[here]] = values[here].to(out.dtype)


def _lse(values: Tensor, counted: Tensor) -> Tensor:
    if not values.shape[1]:
        return values.new_full((len(values),), -math.inf)
    return values.masked_fill(~counted, -torch.inf).logsumexp(-1)
