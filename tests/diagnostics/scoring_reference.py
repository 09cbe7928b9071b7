"""Whole logits, one context at a time, plain loops in float64: what a metrics file must say."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM


def logprobs(folder: Path, tokens: list[int], response: int, columns: int) -> list[list[float]]:
    """[R][V] natural log-probs over the first `columns` ids, float64, at each response token."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0]
    rows = logits[len(tokens) - response - 1 : -1, :columns].double()
    return rows.log_softmax(-1).tolist()


def token_numbers(log_s: list[float], log_t: list[float], token: int, k: int) -> dict[str, float]:
    """Every column of one token that two whole distributions give."""
    p, q, every = [math.exp(x) for x in log_s], [math.exp(x) for x in log_t], range(len(log_s))
    middle = [math.log((p[v] + q[v]) / 2) for v in every]
    own = sorted(every, key=lambda v: (-log_s[v], v))[:k]
    other = sorted(every, key=lambda v: (-log_t[v], v))[:k]
    shared, union = [v for v in own if v in other], sorted({*own, *other})
    z_s, z_t = sum(p[v] for v in union), sum(q[v] for v in union)
    d = sum(q[v] / z_t * math.log((q[v] / z_t) / (p[v] / z_s)) for v in union)
    reverse = sum(p[v] / z_s * math.log((p[v] / z_s) / (q[v] / z_t)) for v in union)
    advantage = None
    if shared:
        o_s, o_t = sum(p[v] for v in shared), sum(q[v] for v in shared)
        terms = [p[v] / o_s * (math.log(q[v] / o_t) - math.log(p[v] / o_s)) for v in shared]
        advantage = sum(terms) / len(terms)
    return {
        "Hs": -sum(p[v] * log_s[v] for v in every),
        "Ht": -sum(q[v] * log_t[v] for v in every),
        "KLf": sum(q[v] * (log_t[v] - log_s[v]) for v in every),
        "KLr": sum(p[v] * (log_s[v] - log_t[v]) for v in every),
        "JSD": sum(q[v] * (log_t[v] - middle[v]) + p[v] * (log_s[v] - middle[v]) for v in every) / 2,
        "student_logp_sampled": log_s[token],
        "teacher_logp_sampled": log_t[token],
        "target_student_rank": sum(x > log_s[token] for x in log_s),
        "target_teacher_rank": sum(x > log_t[token] for x in log_t),
        "student_topk_mass": sum(p[v] for v in own),
        "teacher_topk_mass": sum(q[v] for v in other),
        "KLf_union": d,
        "KLr_union": reverse,
        "Cmass_exact": sum(q[v] for v in own),
        "Cmass_topk": sum(q[v] for v in shared),
        "Coverlap": len(shared) / k,
        "Cjaccard": len(shared) / len(union),
        "CBC": sum(math.sqrt(p[v] / z_s * q[v] / z_t) for v in union),
        "reach_t1": float(other[0] in own),
        "overlap_mass": sum(p[v] for v in shared),
        "overlap_advantage": advantage,
        "student_top_ids": own,
        "student_top_logps": [log_s[v] for v in own],
        "teacher_top_ids": other,
        "teacher_top_logps": [log_t[v] for v in other],
    }
