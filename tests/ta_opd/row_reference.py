"""Losses of rows in float64 from their formulas, differentiated by torch, over whole arrays and one row at a time."""

import math

import torch

FLOOR = -87.0


def floored(logprobs):
    """Below FLOOR the value is FLOOR and the slope stays; -inf is a constant."""
    logprobs = logprobs.masked_fill(logprobs == -torch.inf, FLOOR)
    return torch.where(logprobs < FLOOR, FLOOR + (logprobs - logprobs.detach()), logprobs)


def log_softmax(logits, temperature=1.0):
    return floored(torch.log_softmax(logits.double() / temperature, -1))


def target(log_s, log_t, t, space):
    log_s, log_t = log_s.detach(), log_t.detach()
    if t == 1:
        return log_t
    if space == "prob":
        return ((1 - t) * log_s.exp() + t * log_t.exp()).log()
    return log_softmax((1 - t) * log_s + t * log_t)


def divergence(kind, weight, clip, log_s, log_q):
    p, q = log_s.exp(), log_q.exp()
    log_m = (weight * q + (1 - weight) * p).log()
    values = {
        "forward_kl": q * (log_q - log_s),
        "reverse_kl": p * (log_s - log_q),
        "jsd": weight * q * (log_q - log_m) + (1 - weight) * p * (log_s - log_m),
        "skew_reverse_kl": p * (log_s - log_m),
        "skew_forward_kl": q * (log_q - log_m),
    }[kind]
    return values.clamp(max=clip).sum(-1)


def gate_weights(gate, entropy):
    if gate is None:
        return torch.ones_like(entropy), torch.zeros_like(entropy)
    if gate.gate == "hard_add":
        return torch.ones_like(entropy), gate.alpha * (entropy > gate.tau).double()
    if gate.gate == "sigmoid":
        weight = 1 / (1 + torch.exp((gate.tau - entropy) / gate.width))
    else:
        weight = (entropy / gate.h_max).clamp(0, 1)
    return 1 - weight, weight


def entropy(logprobs):
    return -(logprobs.exp() * logprobs).sum(-1)


def of_log_probs(log_s, log_q, plan, teacher_entropy):
    """What a plan makes of log-probs [..., V] of the student and the target."""
    base_weight, forward_weight = gate_weights(plan.gate, teacher_entropy)
    forward = divergence("forward_kl", 0.5, math.inf, log_s, log_q)
    loss = torch.where(forward_weight > 0, forward_weight * forward, 0)
    if plan.base is not None:
        loss = loss + base_weight * divergence(plan.base.kind, plan.base.weight, plan.base.clip, log_s, log_q)
    return {
        "loss": loss,
        "teacher_entropy": teacher_entropy,
        "forward_kl": forward,
        "reverse_kl": divergence("reverse_kl", 0.5, math.inf, log_s, log_q),
        "cross_entropy": -(log_q.exp() * log_s).sum(-1),
        "gate": forward_weight,
    }


def sampled(log_s, log_t, token_ids):
    index = token_ids[:, None].long()
    return {
        "student_logprob": log_s.gather(-1, index)[:, 0],
        "teacher_logprob": log_t.gather(-1, index)[:, 0],
        "student_entropy": entropy(log_s),
    }


def row_losses(student, teacher, plan, token_ids):
    """{field: float64 [N]} of a RowResult; differentiable in student."""
    log_s, log_t = log_softmax(student, plan.temperature), log_softmax(teacher, plan.temperature)
    unit = sampled(log_softmax(student), log_softmax(teacher), token_ids)
    log_q = target(log_s, log_t, plan.taid_t, plan.taid_space)
    return of_log_probs(log_s, log_q, plan, entropy(log_t)) | unit


def gradient(student, upstream, compute):
    """d(sum over fields and rows of upstream[field] * field) / d student, float64 [N, V]."""
    leaf = student.detach().double().requires_grad_()
    values = compute(leaf)
    sum((values[name] * weight.double()).sum() for name, weight in upstream.items()).backward()
    return leaf.grad


def renormalised(logprobs):
    return floored(logprobs - logprobs.logsumexp(-1, keepdim=True))


def least_entropy(logprobs):
    """Of a list's distribution with what it leaves out spread over as few tokens as it allows, all as probable as the
    last listed one, and the remainder in one more."""
    p = logprobs.exp()
    p = p / p.sum().clamp(min=1)
    rest = float(1 - p.sum())
    last = min(float(p.min()), rest)
    return -(p * p.log()).sum() - (rest * math.log(last) if rest > 0 else 0)


def one_list(logits, ids, logprobs, plan, form, vocabulary):
    """What a plan makes of one row [V] and one list of {id: log-prob}, each id once and in the vocabulary."""
    log_s = torch.log_softmax(logits[:vocabulary].double() / plan.temperature, -1)
    log_t = logprobs.double() / plan.temperature
    listed = log_s[ids]
    if form == "tail":
        excess = (log_t.logsumexp(-1) - math.log1p(-1e-7)).clamp(min=0)
        left_t = (1 - (log_t - excess).exp().sum()).clamp(min=1e-7)
        others = torch.ones(vocabulary, dtype=torch.bool)
        others[ids] = False
        left_s = log_s[others].exp().sum().clamp(min=1e-7)
        log_s = torch.cat((floored(listed), left_s.log()[None]))
        log_t = torch.cat((floored(log_t - excess), left_t.log()[None]))
        own = log_s
    else:
        log_t = renormalised(log_t)
        own = renormalised(listed)
        log_s = own if form == "renormalised" else floored(listed)
    log_q = target(own, log_t, plan.taid_t, plan.taid_space)
    return of_log_probs(log_s, log_q, plan, least_entropy(logprobs.double()))


def topk_losses(student, lists, plan, form, token_ids, vocabulary=None):
    """As row_losses, from lists, N of {id: log-prob}; NaN rows for an empty one."""
    vocabulary = student.shape[1] if vocabulary is None else vocabulary
    rows = []
    for logits, row in zip(student, lists, strict=True):
        kept = {i: value for i, value in row.items() if 0 <= i < vocabulary}
        if kept:
            ids = torch.tensor(list(kept))
            rows.append(one_list(logits, ids, torch.tensor(list(kept.values())), plan, form, vocabulary))
        else:
            rows.append({name: torch.tensor(math.nan) for name in rows[0]})
    values = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    unit = sampled(log_softmax(student[:, :vocabulary]), log_softmax(student[:, :vocabulary]), token_ids)
    values["student_logprob"], values["student_entropy"] = unit["student_logprob"], unit["student_entropy"]
    of_token = [row.get(int(token), math.nan) for row, token in zip(lists, token_ids, strict=True)]
    return values | {"teacher_logprob": torch.tensor(of_token, dtype=torch.float64)}
