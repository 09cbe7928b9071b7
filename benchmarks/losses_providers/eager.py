"""The losses as they are usually written: log_softmax of whole tensors, and autograd."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .problem import GATE_TAU, JSD_WEIGHT, LOSSES, TAID_T, Problem
from .provider import Outputs, Provider, Unavailable


def forward_kl(s: Tensor, t: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(s, -1), F.log_softmax(t, -1), reduction="none", log_target=True).sum(-1)


def reverse_kl(s: Tensor, t: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(t, -1), F.log_softmax(s, -1), reduction="none", log_target=True).sum(-1)


def jsd(s: Tensor, t: Tensor) -> Tensor:
    log_s, log_t = F.log_softmax(s, -1), F.log_softmax(t, -1)
    log_m = torch.logsumexp(torch.stack((log_s + math.log1p(-JSD_WEIGHT), log_t + math.log(JSD_WEIGHT))), 0)
    to_teacher = F.kl_div(log_m, log_t, reduction="none", log_target=True)
    to_student = F.kl_div(log_m, log_s, reduction="none", log_target=True)
    return (JSD_WEIGHT * to_teacher + (1 - JSD_WEIGHT) * to_student).sum(-1)


def taid(s: Tensor, t: Tensor) -> Tensor:
    log_q = F.log_softmax(torch.lerp(s.detach(), t, TAID_T), -1)
    return F.kl_div(F.log_softmax(s, -1), log_q, reduction="none", log_target=True).sum(-1)


def entropy_aware(s: Tensor, t: Tensor) -> Tensor:
    log_s, log_t = F.log_softmax(s, -1), F.log_softmax(t, -1)
    teacher_entropy = -(log_t.exp() * log_t).sum(-1)
    reverse = F.kl_div(log_t, log_s, reduction="none", log_target=True).sum(-1)
    forward = F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(-1)
    return reverse + (teacher_entropy > GATE_TAU) * forward


def topk_tail(s: Tensor, ids: Tensor, listed_t: Tensor) -> Tensor:
    """Reverse KL of the list's tokens and one bucket for all others."""
    listed_s = F.log_softmax(s, -1).gather(-1, ids)

    def with_tail(listed: Tensor) -> Tensor:
        mass = listed.exp().sum(-1, keepdim=True).clamp(max=1 - torch.finfo(listed.dtype).eps)
        return torch.cat((listed, torch.log1p(-mass)), -1)

    log_p, log_q = with_tail(listed_s), with_tail(listed_t.to(listed_s.dtype))
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def entropy_logprob(s: Tensor, token_ids: Tensor) -> Outputs:
    log_s = F.log_softmax(s, -1)
    return log_s.gather(-1, token_ids[:, None])[:, 0], -(log_s.exp() * log_s).sum(-1)


FUNCTIONS: dict[str, Callable] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jsd": jsd,
    "taid": taid,
    "entropy_aware": entropy_aware,
    "topk_tail": topk_tail,
    "entropy_logprob": entropy_logprob,
    "entropy_logprob_grad": entropy_logprob,
}


def in_float32(function: Callable) -> Callable:
    """function with every floating-point argument cast to float32 first."""
    return lambda *tensors: function(*(x.float() if x.is_floating_point() else x for x in tensors))


def outputs(function: Callable, problem: Problem) -> Outputs:
    if problem.loss == "topk_tail":
        return (function(problem.student, problem.top_ids, problem.top_logprobs),)
    if problem.teacher is None:
        return function(problem.student, problem.token_ids)
    return (function(problem.student, problem.teacher),)


def eager(device: str) -> Provider:
    return Provider("eager", {loss: partial(outputs, FUNCTIONS[loss]) for loss in LOSSES}, own_arithmetic=True)


def eager_fp32(device: str) -> Provider:
    return Provider("eager_fp32", {loss: partial(outputs, in_float32(FUNCTIONS[loss])) for loss in LOSSES})


def compiled(device: str) -> Provider:
    """eager_fp32 through torch.compile, one loss at a time: each is compiled anew when another has been in between."""
    if device == "cpu" and not (os.environ.get("CXX") or any(map(shutil.which, ("g++", "clang++", "c++")))):
        raise Unavailable("torch.compile needs a C++ compiler, and there is none")
    functions: dict[str, Callable] = {}

    def compiled_outputs(problem: Problem) -> Outputs:
        if problem.loss not in functions:
            torch.compiler.reset()  # the limit on recompilations counts those of all losses together
            functions.clear()
            function = in_float32(FUNCTIONS[problem.loss])
            functions[problem.loss] = torch.compile(function, dynamic=False, fullgraph=True)
        return outputs(functions[problem.loss], problem)

    return Provider("compile", dict.fromkeys(LOSSES, compiled_outputs))
