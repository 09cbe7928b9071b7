"""A teacher's top-k list as a distribution over buckets, and a divergence's sums over them.

Axes: n rows, K entries of a list; a tail bucket, where the form has one, stands for every token that is not listed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..row_plan import RowPlan
from ..support import LOG_FLOOR, TopK
from .entries import entries
from .scalars import FORWARD, REVERSE

FORMS = ("tail", "renormalised", "student_full")
LEAST_TAIL = 1e-7


@dataclass(frozen=True)
class TeacherList:
    """ids: int64 [n, K], global. listed: bool [n, K], entries that count: tokens of the vocabulary, each once.
    log_q: float32 [n, K], nats, of the buckets, 0 where not listed. log_tail: float32 [n], None without a tail.
    entropy: float32 [n], nats, a lower bound of the whole teacher's at temperature 1, whatever the form."""

    ids: Tensor
    listed: Tensor
    log_q: Tensor
    log_tail: Tensor | None
    entropy: Tensor
    form: str

    @property
    def empty(self) -> Tensor:
        """bool [n], nothing is known."""
        return ~self.listed.any(-1)

    def logprob(self, teacher: TopK, token_ids: Tensor) -> Tensor:
        """float32 [n], log-prob of token_ids as the list has it, NaN where it is not listed."""
        match = (self.ids == token_ids.long()[:, None]) & self.listed
        value = torch.where(match, teacher.logprobs.float(), 0).sum(-1)
        return value.clamp(min=LOG_FLOOR).masked_fill(~match.any(-1), torch.nan)


def teacher_list(teacher: TopK, vocabulary: int, form: str, temperature: float) -> TeacherList:
    """The buckets of lists [n, K].

    tail: the listed probabilities and what they leave, at least LEAST_TAIL; a list that sums to more is scaled down.
    Else: the listed probabilities over the temperature, renormalised.
    """
    ids = teacher.ids.long()
    order = ids.sort(dim=-1, stable=True)
    repeated = torch.zeros_like(ids, dtype=torch.bool)
    repeated[:, 1:] = order.values[:, 1:] == order.values[:, :-1]
    repeated = torch.zeros_like(repeated).scatter_(-1, order.indices, repeated)
    listed = (ids >= 0) & (ids < vocabulary) & ~repeated
    given = teacher.logprobs.double().masked_fill(~listed, -torch.inf)
    logprobs = given / temperature
    mass = logprobs.logsumexp(-1, keepdim=True) if ids.shape[1] else logprobs.new_full((len(ids), 1), -torch.inf)
    log_tail, excess = None, mass
    if form == "tail":
        excess = (mass - math.log1p(-LEAST_TAIL)).clamp(min=0)
        log_tail = (-torch.expm1(mass - excess)).log().clamp(min=math.log(LEAST_TAIL))[:, 0].float()
    log_q = (logprobs - excess).float().clamp(min=LOG_FLOOR).masked_fill(~listed, 0)
    return TeacherList(ids, listed, log_q, log_tail, entropy_bound(given).float(), form)


def entropy_bound(logprobs: Tensor) -> Tensor:
    """[n], nats, the least entropy of a distribution whose most probable tokens are these log-probs [n, K], -inf where
    none is listed: no other token is more probable than the last listed one, or than all that is left."""
    if not logprobs.shape[1]:
        return logprobs.new_zeros(len(logprobs))
    logprobs = logprobs - logprobs.logsumexp(-1, keepdim=True).clamp(min=0)
    p, listed = logprobs.exp(), logprobs > -torch.inf
    rest = (1 - p.sum(-1)).clamp(min=0)
    last = p.masked_fill(~listed, 1).amin(-1)
    return torch.special.entr(p).sum(-1) - torch.xlogy(rest, torch.minimum(last, rest))


def target(log_s: Tensor, log_t: Tensor, geometric_lse: Tensor | None, plan: RowPlan) -> Tensor:
    """TAID's interpolation of log-probs of the same buckets; geometric_lse [n, 1] normalises the geometric one."""
    if plan.taid_t == 1:
        return log_t
    if plan.taid_space == "prob":
        return torch.lerp(log_s.exp(), log_t.exp(), plan.taid_t).log()
    return (torch.lerp(log_s, log_t, plan.taid_t) - geometric_lse).clamp(min=LOG_FLOOR)


@dataclass(frozen=True)
class BucketSums:
    """[n, 4]: of the base divergence (0 without one), KL(Q || S), KL(S || Q) and H(Q, S); slopes u [n, K] of the first
    two in the student's log-probs."""

    sums: Tensor
    base_slope: Tensor
    forward_slope: Tensor

    @property
    def packed(self) -> Tensor:
        """[n, 6], the sums and the two slopes' own."""
        slopes = (self.base_slope.sum(-1, keepdim=True), self.forward_slope.sum(-1, keepdim=True))
        return torch.cat((self.sums, *slopes), -1)


def bucket_sums(log_s: Tensor, log_q: Tensor, counted: Tensor, fixed: Tensor, plan: RowPlan) -> BucketSums:
    """Over the entries [n, K] that `counted` holds; `fixed`, bool [n, K], are student log-probs without a slope."""
    p, q, gap = log_s.exp(), log_q.exp(), log_s - log_q
    forward, forward_slope = entries(FORWARD, p, q, gap)
    reverse, _ = entries(REVERSE, p, q, gap)
    if plan.base is None:
        base, base_slope = torch.zeros_like(p), torch.zeros_like(p)
    else:
        base, base_slope = entries(plan.base, p, q, gap)
    values = torch.stack((base, forward, reverse, -q * log_s), 1)
    dead = ~counted | fixed
    return BucketSums(
        torch.where(counted[:, None], values, 0).sum(-1),
        base_slope.masked_fill(dead, 0),
        forward_slope.masked_fill(dead, 0),
    )
