"""Distillation losses from full logits: per token, no hidden reduction, float32 inside, the teacher without gradient.

Axes: [..., V] logits over the vocabulary to [...] nats per token. S is the student, T the teacher, KL(a || b) the sum
of a log(a / b). A log-prob below LOG_FLOOR is read as LOG_FLOOR, so that impossible tokens cost a finite amount.
A row needs one finite logit; positive infinities and NaN are not distributions and give NaN.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .support import LOG_FLOOR


def log_probs(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(logits / temperature) in float32, [..., V], not below LOG_FLOOR.

    What lies below counts as LOG_FLOOR and keeps its gradient, so that a mask written as -1e9 costs no more than one
    written as -inf, which has no gradient.
    """
    logprobs = torch.log_softmax(logits.float() / temperature, dim=-1)
    logprobs = logprobs.masked_fill(logprobs == -torch.inf, LOG_FLOOR)
    return torch.where(logprobs < LOG_FLOOR, LOG_FLOOR + (logprobs - logprobs.detach()), logprobs)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) of log-probs [..., V], nats, [...]."""
    return _kl_entries(log_p, log_q).sum(-1)


def forward_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, *, top_k: int = 0) -> Tensor:
    """KL(T || S): covers the teacher's modes.

    top_k > 0: the teacher renormalised on its top_k tokens against the student's full-vocabulary log-probs, the form of
    entropy-aware OPD (arXiv 2603.07079, eq 10). Raises ValueError unless 0 <= top_k <= V.
    """
    teacher_logits, log_s = teacher_logits.detach(), log_probs(student_logits, temperature)
    if top_k:
        ids = _teacher_top(teacher_logits, top_k)
        teacher_logits, log_s = teacher_logits.gather(-1, ids), log_s.gather(-1, ids)
    return kl(log_probs(teacher_logits, temperature), log_s)


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(S || T): the OPD objective itself (TA-OPD eq 3)."""
    return kl(log_probs(student_logits, temperature), log_probs(teacher_logits.detach(), temperature))


def generalized_jsd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    beta: float = 0.5,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    token_clip: float | None = None,
) -> Tensor:
    """beta KL(T || M) + (1 - beta) KL(S || M), M = beta T + (1 - beta) S; beta 0 is KL(T || S), beta 1 KL(S || T).

    The conventions of OPSD and GKD (arXiv 2306.13649, eq 1). The ends are no limits: the interior goes to 0 there.
    top_k > 0 keeps the teacher's top_k tokens and renormalises both sides on them. token_clip caps each vocabulary
    entry before the sum; a capped entry has no gradient, and since nothing bounds the entries from below, a capped
    token can come out negative. Raises ValueError unless 0 <= beta <= 1 and 0 <= top_k <= V.
    """
    teacher_logits = teacher_logits.detach()
    if top_k:
        ids = _teacher_top(teacher_logits, top_k)
        student_logits, teacher_logits = student_logits.gather(-1, ids), teacher_logits.gather(-1, ids)
        impossible = (student_logits == -torch.inf).all(-1, keepdim=True)
        student_logits = student_logits.masked_fill(impossible, 0)  # all at the floor, renormalised
    entries = _jsd_entries(log_probs(student_logits, temperature), log_probs(teacher_logits, temperature), beta)
    if token_clip is not None:
        entries = entries.clamp(max=token_clip)
    return entries.sum(-1)


def skew_forward_kl(
    student_logits: Tensor, teacher_logits: Tensor, alpha: float = 0.1, temperature: float = 1.0
) -> Tensor:
    """KL(T || alpha T + (1 - alpha) S) (DistiLLM, arXiv 2402.03898), never above log(1 / alpha)."""
    log_s, log_t = log_probs(student_logits, temperature), log_probs(teacher_logits.detach(), temperature)
    return kl(log_t, _log_mixture(log_s, log_t, alpha))


def skew_reverse_kl(
    student_logits: Tensor, teacher_logits: Tensor, alpha: float = 0.1, temperature: float = 1.0
) -> Tensor:
    """KL(S || alpha S + (1 - alpha) T)."""
    log_s, log_t = log_probs(student_logits, temperature), log_probs(teacher_logits.detach(), temperature)
    return kl(log_s, _log_mixture(log_t, log_s, alpha))


def taid(
    student_logits: Tensor,
    teacher_logits: Tensor,
    t: float,
    *,
    divergence: str = "forward_kl",
    space: str = "logit",
    beta: float = 0.5,
    temperature: float = 1.0,
) -> Tensor:
    """A divergence to the interpolated teacher of taid_target instead of the teacher (TAID, arXiv 2501.16937).

    divergence: forward_kl (TAID's own: its cross-entropy up to a constant), reverse_kl or jsd (with beta).
    At t = 1 exactly the plain divergence. Raises ValueError on another divergence or space, or t outside 0..1.
    """
    log_s = log_probs(student_logits, temperature)
    target = taid_target(log_s, log_probs(teacher_logits, temperature), t, space)
    if divergence == "forward_kl":
        return kl(target, log_s)
    if divergence == "reverse_kl":
        return kl(log_s, target)
    if divergence == "jsd":
        return _jsd_entries(log_s, target, beta).sum(-1)
    raise ValueError(f"--opd-taid-divergence {divergence!r} is not one of forward_kl, reverse_kl, jsd")


def taid_target(log_s: Tensor, log_t: Tensor, t: float, space: str = "logit") -> Tensor:
    """Log-probs [..., V] of the interpolated teacher, detached.

    logit: softmax((1 - t) z_S + t z_T), the geometric mixture, as TAID's authors released it.
    prob: (1 - t) p_S + t p_T, the arithmetic mixture.
    """
    if not 0 <= t <= 1:
        raise ValueError(f"TAID's t {t} is outside 0..1")
    log_s, log_t = log_s.detach(), log_t.detach()
    if space == "logit":
        return log_t if t == 1 else log_probs((1 - t) * log_s + t * log_t)
    if space == "prob":
        return _log_mixture(log_s, log_t, t)
    raise ValueError(f"--opd-taid-space {space!r} is not one of logit, prob")


def taid_cross_entropy(
    student_logits: Tensor,
    teacher_logits: Tensor,
    t: float,
    *,
    space: str = "logit",
    temperature: float = 1.0,
) -> Tensor:
    """- sum p_t log p_S, [...] nats: the value TAID's adaptive schedule compares from step to step."""
    log_s = log_probs(student_logits, temperature)
    target = taid_target(log_s, log_probs(teacher_logits, temperature), t, space)
    return -(target.exp() * log_s).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """Full-vocabulary entropy at temperature 1, nats, [...]."""
    logprobs = log_probs(logits)
    return -(logprobs.exp() * logprobs).sum(-1)


def entropy_gate(
    teacher_entropy: Tensor,
    gate: str = "hard_add",
    *,
    tau: float = 0.8,
    alpha: float = 1.0,
    width: float = 0.2,
    h_max: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Weights (base, forward KL), [...] each, from the teacher's entropy H, nats.

    hard_add: (1, alpha [H > tau]), entropy-aware OPD as published (arXiv 2603.07079, eq 9).
    sigmoid: (1 - w, w), w = sigmoid((H - tau) / width). h_max: (1 - w, w), w = clip(H / h_max, 0, 1).
    Raises ValueError on another gate, or for h_max without a positive h_max.
    """
    if gate == "hard_add":
        return torch.ones_like(teacher_entropy), alpha * (teacher_entropy > tau).to(teacher_entropy.dtype)
    if gate == "sigmoid":
        weight = torch.sigmoid((teacher_entropy - tau) / width)
    elif gate == "h_max":
        if h_max is None or not h_max > 0:
            raise ValueError(f"--opd-entropy-h-max {h_max} must be above 0")
        weight = (teacher_entropy / h_max).clamp(0, 1)
    else:
        raise ValueError(f"--opd-entropy-gate {gate!r} is not one of hard_add, sigmoid, h_max")
    return 1 - weight, weight


def entropy_aware(base: Tensor, forward: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """weights[0] * base + weights[1] * KL(T || S), [...]; with the gate shut exactly the base."""
    return weights[0] * base + torch.where(weights[1] > 0, weights[1] * forward, 0)


def sampled_token(
    student_logprob: Tensor,
    teacher_logprob: Tensor,
    rollout_logprob: Tensor | None = None,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
) -> Tensor:
    """Sampled-token OPD: a clipped policy-gradient loss whose advantage is log p_T(y) - log p_S(y), detached, [...].

    rollout_logprob: log p_S(y) of the policy that sampled y, which the advantage and the ratio are taken against;
    None means the current one. A token without a teacher's or rollout log-prob (NaN) costs NaN and has no gradient.
    Back-propagating log p_S - log p_T itself would not see the teacher at all.
    """
    rollout_logprob = student_logprob if rollout_logprob is None else rollout_logprob
    rollout_logprob = rollout_logprob.detach().float()
    teacher_logprob = teacher_logprob.detach().float()
    advantage = teacher_logprob.masked_fill(teacher_logprob == -torch.inf, LOG_FLOOR) - rollout_logprob
    ratio = torch.where(advantage.isnan(), 0, student_logprob.float() - rollout_logprob).exp()
    return -torch.minimum(advantage * ratio, advantage * ratio.clamp(1 - clip_low, 1 + clip_high))


def _teacher_top(teacher_logits: Tensor, top_k: int) -> Tensor:
    if not 0 <= top_k <= teacher_logits.shape[-1]:
        raise ValueError(f"--opd-loss-top-k {top_k} is outside 0..{teacher_logits.shape[-1]}, the vocabulary")
    return teacher_logits.topk(top_k, dim=-1).indices


def _kl_entries(log_p: Tensor, log_q: Tensor) -> Tensor:
    return log_p.exp() * (log_p - log_q)


def _log_mixture(log_a: Tensor, log_b: Tensor, weight_b: float) -> Tensor:
    if weight_b in (0, 1):
        return log_b if weight_b else log_a
    return torch.logaddexp(log_a + math.log1p(-weight_b), log_b + math.log(weight_b))


def _jsd_entries(log_s: Tensor, log_t: Tensor, beta: float) -> Tensor:
    if not 0 <= beta <= 1:
        raise ValueError(f"--opd-jsd-beta {beta} is outside 0..1")
    if beta == 0:
        return _kl_entries(log_t, log_s)
    if beta == 1:
        return _kl_entries(log_s, log_t)
    log_m = _log_mixture(log_s, log_t, beta)
    return beta * _kl_entries(log_t, log_m) + (1 - beta) * _kl_entries(log_s, log_m)
