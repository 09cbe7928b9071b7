"""Parallel layouts, and a rollout with holes to spread over them."""

from . import rollouts

LAYOUTS = {
    "dp2": {"world": 2},
    "cp2": {"world": 2, "context_parallel_size": 2},
    "tp2": {"world": 2, "tensor_model_parallel_size": 2},
    "dp2_cp2": {"world": 4, "context_parallel_size": 2},
    "dp2_tp2": {"world": 4, "tensor_model_parallel_size": 2},
    "dp2_pp2": {"world": 4, "pipeline_model_parallel_size": 2},
}
SHARES = {1: [[0, 1, 2, 3, 4]], 2: [[0, 3, 4, 1], [2]]}
"""Which samples each data-parallel rank holds: unequal numbers, in another order."""


def samples_with_holes():
    samples = rollouts.batch(11, [9, 1, 30, 0, 14])
    samples[2].loss_mask = [0] * 10 + [1] * 20
    samples[1].opd_teacher.logprobs[0] = float("nan")
    samples[4].opd_teacher.logprobs[3:9] = float("nan")
    return samples
