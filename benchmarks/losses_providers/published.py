"""Published packages, where they are installed; their kernels run on CUDA."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module

import torch
import torch.nn.functional as F

from . import restated
from .problem import JSD_WEIGHT, Problem
from .provider import Outputs, Provider, Unavailable, bare_import

NOT_A_TOKEN = -100


def _need_cuda(device: str) -> None:
    if device != "cuda":
        raise Unavailable("its kernels need a CUDA device")


def liger(device: str) -> Provider:
    """LigerJSD of liger-kernel 0.8.5, beta 0, 1/2 and 1; it takes log-probs, so float32 log_softmax is part of it.

    It gives the mean over tokens alone. Tokens that are not kept get its ignored label.
    """
    _need_cuda(device)
    try:
        function = import_module("liger_kernel.ops").LigerJSDFunction
    except ImportError as error:
        raise Unavailable(f"liger-kernel 0.8.5 does not import: {error}") from error

    def outputs(beta: float, problem: Problem) -> Outputs:
        log_s, log_t = (F.log_softmax(x, -1, dtype=torch.float32) for x in (problem.student, problem.teacher))
        labels = None if problem.all_kept else torch.where(problem.keep, 0, NOT_A_TOKEN)
        return (function.apply(log_s, log_t, labels, beta, NOT_A_TOKEN),)

    betas = {"forward_kl": 0.0, "jsd": JSD_WEIGHT, "reverse_kl": 1.0}
    return Provider("liger", {loss: partial(outputs, beta) for loss, beta in betas.items()}, mean=True)


def speculators(device: str) -> Provider:
    """The fused losses of speculators 0.9.0, alone of its package."""
    _need_cuda(device)
    fused = bare_import("speculators", "0.9.0", "losses.fused")

    def outputs(function: Callable, problem: Problem) -> Outputs:
        return (function(problem.student[None], problem.teacher[None])[0],)

    functions = {
        "forward_kl": fused.fused_kl_div_loss,
        "reverse_kl": fused.fused_reverse_kl_div_loss,
        "jsd": fused.fused_js_div_loss,
    }
    return Provider("speculators", {loss: partial(outputs, function) for loss, function in functions.items()})


def trl(device: str) -> Provider:
    """TRL 1.16: its chunked divergence restated in torch, and on CUDA its own kernel for log-prob and entropy."""
    losses = dict(restated.DIVERGENCES)
    if device == "cuda":
        try:
            sampled = bare_import("trl", "1.16.0", "kernels.logprob_entropy").selective_log_softmax_and_entropy
        except Unavailable as reason:
            print(f"trl: its log-prob and entropy left out: {reason}", file=sys.stderr)
        else:
            function = partial(_sampled, sampled)
            losses |= dict.fromkeys(("entropy_logprob", "entropy_logprob_grad"), function)
    return Provider("trl", losses)


def _sampled(function: Callable, problem: Problem) -> Outputs:
    return function(problem.student, problem.token_ids)
