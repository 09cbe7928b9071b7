"""Memory of training on the fullest GPU, as far as it can be worked out from sizes. Bytes throughout.

slime always trains in bf16 with Megatron's distributed optimizer (slime/backends/megatron_utils/arguments.py sets
use_distributed_optimizer), and the launchers pass --accumulate-allreduce-grads-in-fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

from .architecture import Architecture

WEIGHTS = 2
GRADIENTS = 4
OPTIMIZER = 12
"""A parameter's bf16 weight and float32 gradient, on every data-parallel rank; its float32 copy and Adam's two moments,
spread over the data- and context-parallel ranks."""

LOGITS = 20
"""A logit's share of slime's policy loss: the bf16 logit and 9 times its size at the peak of log-prob and entropy with
their gradient (docs/performance.md, bf16 logits, `entropy_logprob_grad` of `slime`)."""

LOGITS_OF_OURS = 4.2
"""The same of a loss of whole distributions alone: the bf16 logit and at most 1.10 times its size (the same page)."""

CHECKPOINT = 14
"""A saved parameter: bf16 weight, float32 copy, two moments."""


@dataclass(frozen=True)
class Training:
    """Parallel sizes and tokens of a micro-batch on one GPU (context parallel ranks share a sample)."""

    tensor: int
    pipeline: int
    context: int
    data: int
    sequence_parallel: bool
    tokens: int


def weights(a: Architecture, t: Training) -> int:
    return WEIGHTS * a.on_one_gpu(t.tensor, t.pipeline)


def gradients(a: Architecture, t: Training) -> int:
    return GRADIENTS * a.on_one_gpu(t.tensor, t.pipeline)


def optimizer(a: Architecture, t: Training) -> int:
    return OPTIMIZER * a.on_one_gpu(t.tensor, t.pipeline) // (t.data * t.context)


def layer_inputs(a: Architecture, t: Training) -> int:
    """What full recomputation keeps: the bf16 input of each layer of a stage, for each micro-batch in flight there."""
    tokens = t.tokens // t.tensor if t.sequence_parallel else t.tokens
    return 2 * tokens * a.hidden * (a.layers // t.pipeline) * t.pipeline


def logits(a: Architecture, t: Training, bytes_a_logit: float) -> int:
    return int(bytes_a_logit * t.tokens * (a.padded_vocabulary(t.tensor) // t.tensor))


def checkpoint(a: Architecture) -> int:
    return CHECKPOINT * a.parameters()
