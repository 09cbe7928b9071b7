"""slime's shares of response rows for context-parallel ranks, and its reducer.

Zigzag over Megatron's ranks where a test has set them up, else one rank that holds everything.
"""

import sys

import torch


def _context_parallel():
    """Megatron's module of parallel groups, None where there is one rank."""
    parallel = sys.modules.get("megatron.core.parallel_state")
    if parallel is None or not parallel.model_parallel_is_initialized():
        return None
    return parallel if parallel.get_context_parallel_world_size() > 1 else None


def _share(total_length, response_length):
    """The places in the response whose tokens this rank's logits predict."""
    parallel = _context_parallel()
    if parallel is None:
        return torch.arange(response_length)
    rank, size = parallel.get_context_parallel_rank(), parallel.get_context_parallel_world_size()
    prompt, chunk = total_length - response_length, -(-total_length // (2 * size))
    predictor = torch.arange(prompt - 1, total_length - 1)
    mine = (predictor // chunk == rank) | (predictor // chunk == 2 * size - 1 - rank)
    return torch.arange(response_length)[mine]


def slice_log_prob_with_cp(log_prob, total_length, response_length):
    assert len(log_prob) == response_length
    return log_prob if _context_parallel() is None else log_prob[_share(total_length, response_length)]


def all_gather_with_cp(tensor, total_length, response_length):
    parallel = _context_parallel()
    if parallel is None:
        return tensor
    whole = tensor.new_zeros(response_length, *tensor.shape[1:])
    whole[_share(total_length, response_length)] = tensor
    torch.distributed.all_reduce(whole, group=parallel.get_context_parallel_group())
    return whole


def get_sum_of_sample_mean(total_lengths, response_lengths, loss_masks, sample_denoms=None, per_token=False):
    lengths = list(zip(total_lengths, response_lengths, strict=True))
    masks = [slice_log_prob_with_cp(m, *length) for m, length in zip(loss_masks, lengths, strict=True)]

    def reduce(values):
        parts = [(v * m).sum() for v, m in zip(values.split([len(m) for m in masks]), masks, strict=True)]
        return sum(
            parts if per_token else [part / max(float(d), 1) for part, d in zip(parts, sample_denoms, strict=True)]
        )

    return reduce
