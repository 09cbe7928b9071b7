"""What slime does around the hooks, on one rank: advantages with base, hook, OPD term and whitening, and the wrapper
that every loss runs in. The policy loss is any function of the advantages and the logits."""

import torch
from slime.backends.megatron_utils.cp_utils import _share, get_sum_of_sample_mean
from slime.utils.misc import load_function
from torch.utils.checkpoint import checkpoint


def compute_advantages_and_returns(args, rollout_data):
    log_probs = rollout_data.get("rollout_log_probs" if args.use_rollout_logprobs else "log_probs")
    log_probs = rollout_data["values"] if log_probs is None else log_probs
    if args.custom_advantage_function_path is not None:
        load_function(args.custom_advantage_function_path)(args, rollout_data)
        advantages, returns = rollout_data["advantages"], rollout_data["returns"]
    else:
        returns = [torch.full_like(x, r) for x, r in zip(log_probs, rollout_data["rewards"], strict=True)]
        advantages = list(returns)
    if args.use_opd:
        advantages = [
            a - args.opd_kl_coef * (s - t)
            for a, s, t in zip(advantages, log_probs, rollout_data["teacher_log_probs"], strict=True)
        ]
        rollout_data["opd_reverse_kl"] = [
            s - t for s, t in zip(log_probs, rollout_data["teacher_log_probs"], strict=True)
        ]
    if args.normalize_advantages:
        flat, mask = torch.cat(advantages), torch.cat(rollout_data["loss_masks"]).bool()
        flat = (flat - flat[mask].mean()) / (flat[mask].std() + 1e-8)
        advantages = list(flat.split([len(a) for a in advantages]))
    rollout_data["advantages"], rollout_data["returns"] = advantages, returns


def policy_loss_function(args, batch, logits, sum_of_sample_mean):
    loss = sum_of_sample_mean(torch.cat(batch["advantages"])) + 1e-3 * logits.square().sum()
    return loss, {"loss": loss.detach(), "pg_loss": loss.detach()}


def loss_function(args, batch, num_microbatches, step_global_batch_size, logits):
    from megatron.core import mpu

    per_token = args.calculate_per_token_loss
    num_tokens = sum(m.sum().clamp(min=1) for m in batch["loss_masks"])
    lengths = batch["total_lengths"], batch["response_lengths"]
    reducer = get_sum_of_sample_mean(*lengths, batch["loss_masks"], batch["rollout_mask_sums"], per_token)
    custom = args.loss_type == "custom_loss"
    function = load_function(args.custom_loss_function_path) if custom else policy_loss_function
    if args.recompute_loss_function:
        loss, log = checkpoint(function, args, batch, logits, reducer, use_reentrant=False)
    else:
        loss, log = function(args, batch, logits, reducer)
    if per_token:
        loss = loss * mpu.get_context_parallel_world_size()
    else:
        ranks = mpu.get_data_parallel_world_size(with_context_parallel=True)
        loss = loss * num_microbatches / step_global_batch_size * ranks
    values = torch.tensor([num_tokens if per_token else 0, *log.values()])
    return loss, num_tokens if per_token else torch.tensor(1), {"keys": list(log), "values": values}


def _allgather_cp_redistribute(res, *, logits_local_len, total_lengths, response_lengths):
    """Per-token values of contiguous shares to the zigzag ones; a sum over ranks, each of which holds its own rows."""
    from megatron.core import mpu

    low = mpu.get_context_parallel_rank() * logits_local_len
    for key, values in res.items():
        whole, start = [], 0
        for part, total, response in zip(values, total_lengths, response_lengths, strict=True):
            first = start + total - response - 1
            before = min(max(low - first, 0), response - len(part))
            whole.append(torch.nn.functional.pad(part, (before, response - before - len(part))))
            start += total
        summed = torch.distributed.nn.all_reduce(torch.cat(whole), group=mpu.get_context_parallel_group())
        lengths = zip(summed.split(list(response_lengths)), total_lengths, response_lengths, strict=True)
        res[key] = [part[_share(total, response)] for part, total, response in lengths]
