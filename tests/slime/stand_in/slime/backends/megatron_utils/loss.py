"""What slime's compute_advantages_and_returns does around the hook, on one rank: base, hook, OPD term, whitening."""

import torch
from slime.utils.misc import load_function


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
