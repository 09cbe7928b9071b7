"""ta_opd's row losses: the chunked torch form, and on CUDA the Triton kernels."""

from __future__ import annotations

import math
from importlib import import_module
from types import ModuleType

import torch
from ta_opd import TopK
from ta_opd.row_losses import row_losses
from ta_opd.row_plan import Divergence, EntropyGate, RowPlan
from ta_opd.row_statistics import torch_kernels
from ta_opd.topk_losses import topk_losses

from .problem import GATE_TAU, JSD_WEIGHT, LOSSES, TAID_T, Problem
from .provider import Outputs, Provider, Unavailable

PLANS = {
    "forward_kl": RowPlan(Divergence("forward_kl")),
    "reverse_kl": RowPlan(Divergence("reverse_kl")),
    "jsd": RowPlan(Divergence("jsd", weight=JSD_WEIGHT)),
    "taid": RowPlan(Divergence("forward_kl"), taid_t=TAID_T),
    "entropy_aware": RowPlan(Divergence("reverse_kl"), gate=EntropyGate("hard_add", tau=GATE_TAU)),
    "topk_tail": RowPlan(Divergence("reverse_kl")),
}
VALUE_TOLERANCE = {"cpu": 1e-3, "cuda": 1e-3}
CHOOSERS = ("ta_opd.row_statistics.function", "ta_opd.topk_losses")
"""Modules whose `kernels` says which implementation a device gets."""


def _outputs(problem: Problem) -> Outputs:
    keep = None if problem.all_kept else problem.keep
    if problem.teacher is not None:
        return (row_losses(problem.student, problem.teacher, PLANS[problem.loss], keep=keep).loss,)
    if problem.loss == "topk_tail":
        lists = TopK(problem.top_ids, problem.top_logprobs)
        return (topk_losses(problem.student, lists, PLANS[problem.loss], keep=keep).loss,)
    sampled = problem.token_ids[:, None]
    lists = TopK(sampled, torch.full(sampled.shape, math.log(0.5), device=sampled.device))  # any: its loss is not read
    result = topk_losses(problem.student, lists, PLANS["topk_tail"], keep=keep, token_ids=problem.token_ids)
    return result.student_logprob, result.student_entropy


def _provider(name: str, device: str, kernels: ModuleType) -> Provider:
    def outputs(problem: Problem) -> Outputs:
        for module in CHOOSERS:  # until the next call, since the backward asks too
            import_module(module).kernels = lambda logits: kernels
        return _outputs(problem)

    function = _outputs if device == "cpu" else outputs  # a CPU has one implementation
    return Provider(name, dict.fromkeys(LOSSES, function), value_tolerance=VALUE_TOLERANCE[device])


def ours(device: str) -> Provider:
    """The chunked torch form, on CUDA too."""
    return _provider("ours", device, torch_kernels)


def ours_triton(device: str) -> Provider:
    if device != "cuda":
        raise Unavailable("its kernels need a CUDA device")
    kernels = import_module("ta_opd.row_statistics.triton_kernels")
    if not kernels.AVAILABLE:
        raise Unavailable("triton is not installed")
    return _provider("ours_triton", device, kernels)
