"""What every provider is held against: the definitions, in float64, differentiated by autograd.

Axes: n rows, V vocabulary, K entries of a list.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .problem import GATE_TAU, JSD_WEIGHT, TAID_T, Problem

ROWS = 8


def reference(problem: Problem, weights: Tensor) -> tuple[list[Tensor], Tensor]:
    """The loss's outputs, float64 [N] each, and the gradient [N, V] of the sum of weights times every output."""
    values, gradients = [], []
    for start in range(0, len(problem.student), ROWS):
        rows = slice(start, start + ROWS)
        z = problem.student[rows].detach().double().requires_grad_(True)
        outputs = _outputs(problem, z, rows)
        total = sum((output * weights[rows]).sum() for output in outputs)
        gradients.append(torch.autograd.grad(total, z)[0])
        values.append([output.detach() for output in outputs])
    return [torch.cat(parts) for parts in zip(*values, strict=True)], torch.cat(gradients)


def _outputs(problem: Problem, z: Tensor, rows: slice) -> tuple[Tensor, ...]:
    log_s = z - z.logsumexp(-1, keepdim=True)
    s = log_s.exp()
    if problem.loss.startswith("entropy_logprob"):
        return log_s.gather(1, problem.token_ids[rows, None])[:, 0], -(s * log_s).sum(-1)
    if problem.loss == "topk_tail":
        return (_topk_tail(log_s, problem.top_ids[rows], problem.top_logprobs[rows].double()),)
    log_t = problem.teacher[rows].double().log_softmax(-1)
    t = log_t.exp()
    if problem.loss == "forward_kl":
        return (_kl(t, log_t, log_s),)
    if problem.loss == "reverse_kl":
        return (_kl(s, log_s, log_t),)
    if problem.loss == "jsd":
        log_m = (JSD_WEIGHT * t + (1 - JSD_WEIGHT) * s).log()
        return (JSD_WEIGHT * _kl(t, log_t, log_m) + (1 - JSD_WEIGHT) * _kl(s, log_s, log_m),)
    if problem.loss == "taid":
        log_q = ((1 - TAID_T) * log_s + TAID_T * log_t).detach().log_softmax(-1)
        return (_kl(log_q.exp(), log_q, log_s),)
    assert problem.loss == "entropy_aware", problem.loss
    uncertain = -(t * log_t).sum(-1) > GATE_TAU
    return (_kl(s, log_s, log_t) + uncertain * _kl(t, log_t, log_s),)


def _topk_tail(log_s: Tensor, ids: Tensor, log_t: Tensor) -> Tensor:
    """Reverse KL of K + 1 buckets, the last of them all that is not on the list."""
    log_listed = log_s.gather(1, ids)
    outside = torch.ones_like(log_s).scatter(1, ids, 0)
    student_tail = (log_s.exp() * outside).sum(-1)
    teacher_tail = 1 - log_t.exp().sum(-1)
    listed = _kl(log_listed.exp(), log_listed, log_t)
    return listed + student_tail * (student_tail.log() - teacher_tail.clamp(min=math.exp(-80)).log())


def _kl(p: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    return (p * (log_p - log_q)).sum(-1)
