"""Our packed rows on slime's own way from samples to the trainer: convert, split by rank, tensorize, slice for CP.

conversion.py packed|mask, with a patched checkout on PYTHONPATH. Raises on the first thing that is not as it must be,
else prints what it saw as JSON.
"""

import inspect
import itertools
import json
import sys
from types import SimpleNamespace

import numpy as np
import ray
import torch
from slime.ray import rollout as slime_rollout
from slime.rollout.on_policy_distillation import post_process_rewards
from slime.utils import data as slime_data
from slime.utils.types import Sample
from ta_opd.teacher.signal import TeacherSignal, TopKRows

LENGTHS = [7, 1, 4, 16, 3, 2, 9, 5]
PROMPTS = [3, 2, 9, 4, 1, 6, 5, 8]
VOCABULARY, K, GROUP, DP = 32, 4, 2, 2
CP_SIZES = (1, 2, 4)
VALID = sum(LENGTHS) - 2  # the last sample's mask


def top_k(logits):
    values, ids = torch.log_softmax(logits, -1).topk(K)
    return TopKRows(ids.numpy().astype(np.int32), values.numpy())


def make_samples():
    """Responses with both models' top-k, the last one masked in part, one of them without a teacher."""
    generator = torch.Generator().manual_seed(5)
    samples = []
    for index, (prompt, length) in enumerate(zip(PROMPTS, LENGTHS, strict=True)):
        student, teacher = torch.randn(2, length, VOCABULARY, generator=generator) * 2
        ids = torch.randint(VOCABULARY, (prompt + length,), generator=generator)
        picked = ids[-length:, None]
        sample = Sample(
            group_index=index // GROUP,
            index=index,
            tokens=ids.tolist(),
            response_length=length,
            reward=float(index % 3),
            status=Sample.Status.COMPLETED,
            rollout_log_probs=torch.log_softmax(student, -1).gather(1, picked)[:, 0].tolist(),
        )
        sample.opd_student = top_k(student)
        logprobs = torch.log_softmax(teacher, -1).gather(1, picked)[:, 0].numpy()
        sample.opd_teacher = TeacherSignal(logprobs, top_k(teacher))
        samples.append(sample)
    samples[-1].loss_mask = [0, 0, 1, 1, 1]
    samples[5].opd_teacher = TeacherSignal.absent(LENGTHS[5], K, "timeout")
    return samples


def make_args(**changes):
    args = {
        "use_opd": True,
        "opd_type": "sglang",
        "opd_kl_coef": 1.0,
        "opd_topk_metrics_k": K,
        "opd_budget_mask": "teachability",
        "opd_budget_ratio": 0.25,
        "opd_max_missing": 0.5,
        "custom_advantage_function_path": "slime.backends.megatron_utils.opd_hooks.compute_advantages",
        "advantage_estimator": "grpo",
        "rewards_normalization": True,
        "grpo_std_normalization": True,
        "n_samples_per_prompt": GROUP,
        "rollout_batch_size": len(LENGTHS) // GROUP,
        "global_batch_size": len(LENGTHS),
        "micro_batch_size": 1,
        "use_dynamic_batch_size": False,
        "use_dynamic_global_batch_size": False,
        "max_tokens_per_gpu": None,
        "balance_data": False,
        "balance_by_flops": False,
        "reward_key": None,
        "calculate_per_token_loss": False,
        "use_rollout_routing_replay": False,
        "rollout_seed": 1,
        "rollout_top_p": 1.0,
    }
    return SimpleNamespace(**args | changes)


def manager(args):
    """slime's RolloutManager without Ray: the class behind the decorator, with what the two methods read."""
    plain = slime_rollout.RolloutManager.__ray_metadata__.modified_class
    made = object.__new__(plain)
    made.args = args
    made.custom_reward_post_process_func = post_process_rewards
    made.custom_convert_samples_to_train_data_func = None
    made.train_parallel_config = {"dp_size": DP, "cp_size": 1, "vpp_size": 1, "microbatch_group_size_per_vp_stage": 1}
    return made


def split(made, data):
    """Each rank's rollout data as the trainer unwraps it; ray.put and ray.get hand the object through."""
    ray.put, ray.get = (lambda value, **options: value), (lambda value, **options: value)
    # Until v0.2.4 it was told the number of ranks.
    extra = [DP] if "dp_size" in inspect.signature(made._split_train_data_by_dp).parameters else []
    boxes = made._split_train_data_by_dp(data, *extra)
    partitions = [list(box.inner["partition"]) for box in boxes]
    return partitions, [slime_data.process_rollout_data(made.args, boxes, rank, DP) for rank in range(DP)]


def owner(total, prompt, cp):
    """The CP rank that computes each response token: of 2 cp chunks of the sequence, rank r holds r and 2 cp - 1 - r.

    A token's log-prob comes from the position before it, so the chunk is that position's.
    """
    chunk = -(-total // (2 * cp))
    chunks = [(position - 1) // chunk for position in range(prompt, total)]
    return torch.tensor([c if c < cp else 2 * cp - 1 - c for c in chunks])


def check_context_parallel(rows, total, length):
    from slime.backends.megatron_utils import cp_utils

    for cp in CP_SIZES:
        cp_utils.mpu.get_context_parallel_world_size = lambda cp=cp: cp
        owners = owner(total, total - length, cp)
        together = torch.full_like(rows, torch.nan)
        for rank in range(cp):
            cp_utils.mpu.get_context_parallel_rank = lambda rank=rank: rank
            part = cp_utils.slice_log_prob_with_cp(rows, total, length)
            assert part.shape == (int((owners == rank).sum()), 2), (cp, rank, part.shape)
            together[owners == rank] = part
        assert same(together, rows), f"CP {cp} does not give the rows back"


def same(a, b):
    return a.shape == b.shape and bool(torch.equal(a.nan_to_num(1e9), b.nan_to_num(1e9)))


def check_packed(made, samples, data):
    """[R, 2] rows: teacher's log-prob and weight; the exact budget over the valid tokens."""
    packed = data["teacher_log_probs"]
    kept = sum(int((rows[:, 1] > 0).sum()) for rows in packed)
    valid = sum(int((rows[:, 1] >= 0).sum()) for rows in packed)
    assert [tuple(rows.shape) for rows in packed] == [(length, 2) for length in LENGTHS]
    assert valid == VALID and kept == -(-valid // 4), (kept, valid)
    assert bool(packed[5][:, 0].isnan().all()), "no teacher, no number"
    assert not bool((packed[5][:, 1] > 0).any()), "no teacher, nothing distilled"
    assert [sum(mask) for mask in data["loss_masks"]] == [*LENGTHS[:-1], 3], "the loss mask is not the selection"
    partitions, ranks = split(made, data)
    assert sorted(itertools.chain(*partitions)) == list(range(len(LENGTHS)))
    for partition, rank in zip(partitions, ranks, strict=True):
        for place, index in enumerate(partition):
            rows = rank["teacher_log_probs"][place]
            assert rows.dtype == torch.float32 and same(rows, packed[index].float()), index
            assert rank["total_lengths"][place] == PROMPTS[index] + LENGTHS[index]
            check_context_parallel(rows, rank["total_lengths"][place], LENGTHS[index])
    return {"kept": kept, "valid": valid, "dp": DP, "cp": "1, 2, 4"}


def check_mask(made, samples, data):
    """Plain [R] log-probs, all finite, and the selection in the loss masks: what a trainer without our hook reads."""
    kept = sum(map(sum, data["loss_masks"]))
    assert kept == -(-VALID // 4), kept
    rows = [torch.as_tensor(row) for row in data["teacher_log_probs"]]
    assert [tuple(row.shape) for row in rows] == [(length,) for length in LENGTHS]
    assert bool(torch.cat(rows).isfinite().all())
    partitions, ranks = split(made, data)
    for partition, rank in zip(partitions, ranks, strict=True):
        for place, index in enumerate(partition):
            assert list(map(int, rank["loss_masks"][place])) == list(data["loss_masks"][index])
    return {"kept": kept, "valid": VALID, "dp": DP}


CHECKS = {
    "packed": (check_packed, {}),
    "mask": (check_mask, {"opd_mask_target": "loss", "custom_advantage_function_path": None}),
}


def main(mode):
    check, changes = CHECKS[mode]
    made, samples = manager(make_args(**changes)), make_samples()
    print(json.dumps(check(made, samples, made._convert_samples_to_train_data(samples))))


if __name__ == "__main__":
    main(sys.argv[1])
