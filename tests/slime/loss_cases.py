"""The runs in which our loss is held against a reference: settings, layouts, samples and how slime packs them."""

from argparse import Namespace

import torch
from ta_opd.carrier import pack
from ta_opd.support import TopK

VOCABULARY, PADDED, K, HIDDEN = 13, 16, 4, 6
PROMPTS, LENGTHS = [3, 5, 12, 2], [6, 9, 1, 7]
MICRO_BATCHES = ([0, 1], [2], [3])
COEFFICIENT, BATCH_SIZE = 0.6, 4
NUMBERS = ("forward_kl", "cross_entropy", "student_entropy")
LAYOUTS = {
    "one": {"world": 1},
    "tp2": {"world": 2, "tensor_model_parallel_size": 2},
    "cp2": {"world": 2, "context_parallel_size": 2},
    "cp2_gathered": {"world": 2, "context_parallel_size": 2},
    "tp2_cp2": {"world": 4, "tensor_model_parallel_size": 2, "context_parallel_size": 2},
}
CASES = {
    "forward": {"opd_loss": "forward_kl"},
    "reverse_renormalised": {"opd_loss": "reverse_kl", "opd_loss_top_k_form": "renormalised"},
    "jsd": {"opd_loss": "jsd", "opd_jsd_beta": 0.3},
    "jsd_per_token": {"opd_loss": "jsd", "calculate_per_token_loss": True},
    "jsd_recomputed": {"opd_loss": "jsd", "recompute_loss_function": True},
    "jsd_with_policy": {"opd_loss": "jsd", "opd_task_reward": "rm"},
    "taid": {"opd_loss": "taid", "opd_taid_t_start": 0.4},
    "gate": {"opd_loss": "entropy_aware", "opd_entropy_gate": "sigmoid", "opd_entropy_width": 0.5},
    "entropy_aware": {"opd_loss": "entropy_aware", "opd_loss_top_k_form": "student_full", "opd_entropy_tau": 0.0},
    "megatron_top_k": {"opd_type": "megatron", "opd_loss": "jsd"},
    "megatron_top_k_gate": {
        **{"opd_type": "megatron", "opd_loss": "entropy_aware"},
        **{"opd_entropy_gate": "sigmoid", "opd_entropy_width": 0.5},
    },
    "megatron_full": {"opd_type": "megatron", "opd_loss": "jsd", "opd_loss_top_k": 0},
    "megatron_full_gate": {
        **{"opd_type": "megatron", "opd_loss": "entropy_aware", "opd_loss_top_k": 0},
        **{"opd_entropy_gate": "sigmoid", "opd_entropy_width": 0.5},
    },
}


def arguments(**values):
    from slime.utils.opd_versions import LOSS_PATH, PATHS

    return Namespace(
        **PATHS,
        **{
            "use_opd": True,
            "opd_type": "sglang",
            "opd_kl_coef": 0.7,
            "opd_loss_coef": COEFFICIENT,
            "opd_loss_top_k": K,
            "loss_type": "custom_loss",
            "custom_loss_function_path": LOSS_PATH,
            "vocab_size": VOCABULARY,
            "train_iters": 10,
            "allgather_cp": False,
            "qkv_format": "thd",
            "advantage_estimator": "grpo",
            "normalize_advantages": False,
            "calculate_per_token_loss": False,
            "recompute_loss_function": False,
            "use_rollout_logprobs": False,
            "use_rollout_routing_replay": False,
            "use_wandb": False,
            "use_tensorboard": False,
            "use_kl_loss": False,
            "use_opsm": False,
            "use_tis": False,
            "get_mismatch_metrics": False,
            "kl_coef": 0.0,
            "kl_loss_type": "k1",
            "entropy_coef": 0.0,
            "eps_clip": 0.2,
            "eps_clip_high": 0.28,
            "eps_clip_c": None,
            "gamma": 1.0,
            "lambd": 1.0,
            "log_probs_chunk_size": -1,
            "rollout_temperature": 1.0,
            "rollout_top_p": 1.0,
        }
        | values,
    )


def make_samples():
    """Whole samples: logits of every position, columns of padding with them, and what the rollout side packs."""
    generator = torch.Generator().manual_seed(5)
    head = torch.randn(PADDED, HIDDEN, generator=generator)
    samples = []
    for index, (prompt, length) in enumerate(zip(PROMPTS, LENGTHS, strict=True)):
        logits = 2 * torch.randn(prompt + length, PADDED, generator=generator)
        hidden = torch.randn(prompt + length, HIDDEN, generator=generator)
        teacher = (hidden[prompt - 1 : -1] @ head[:VOCABULARY].T).log_softmax(-1)
        lists = TopK.from_logprobs(teacher, K)
        mask = torch.ones(length, dtype=torch.int)
        mask[: index % 3] = 0
        tokens = torch.randint(VOCABULARY, (prompt + length,), generator=generator)
        weight = mask * torch.rand(length, generator=generator) * (torch.arange(length) % 3 != 1)
        if index == 1:
            lists.ids[-1] = -1  # the teacher never answered for this one
            weight[-1] = 0
            lists.ids[3, 1] = VOCABULARY + 2  # a token that the student does not have
        samples.append(
            {
                "logits": logits,
                "lists": lists,
                "hidden": hidden,
                "head": head,
                "teacher_all": teacher,
                "mask": mask,
                "tokens": tokens,
                "weight": weight,
                "log_probs": logits[prompt - 1 : -1, :VOCABULARY]
                .log_softmax(-1)
                .gather(1, tokens[prompt:, None])[:, 0],
                "teacher": teacher.gather(1, tokens[prompt:, None])[:, 0],
                "total": prompt + length,
                "length": length,
            }
        )
    return samples


def received(samples):
    """What slime's actor has of them: zigzag shares of the log-probs and of the carrier, the rest whole."""
    from slime.backends.megatron_utils.cp_utils import slice_log_prob_with_cp

    def shares(values):
        return [slice_log_prob_with_cp(v, s["total"], s["length"]) for v, s in zip(values, samples, strict=True)]

    carriers = [pack(s["teacher"], s["weight"], s["mask"] != 0, s["lists"]) for s in samples]
    sums = torch.stack([s["mask"].sum() for s in samples]).float()
    return {
        "tokens": [s["tokens"] for s in samples],
        "total_lengths": [s["total"] for s in samples],
        "response_lengths": [s["length"] for s in samples],
        "loss_masks": [s["mask"] for s in samples],
        "sample_indices": [30 + index for index in range(len(samples))],
        "rewards": [index - 1.5 for index in range(len(samples))],
        "log_probs": shares([s["log_probs"] for s in samples]),
        "teacher_log_probs": shares(carriers),
        "rollout_mask_sums": sums,
        "group_mask_sums": sums,
    }


def with_a_teacher_inside(values, samples):
    """The samples as that run has them: each token of the loss mask weighs 1, the teacher's list is its forward's."""
    count = values.get("opd_loss_top_k", K) or VOCABULARY
    return [
        {**sample, "weight": sample["mask"].float(), "lists": TopK.from_logprobs(sample["teacher_all"], count)}
        for sample in samples
    ]


def packed(parts, layout, shard):
    """This rank's logits [1, T, V'] of a micro-batch, as slime packs them, with rows of padding."""
    rank, size, gathered = layout
    if gathered:
        rows = padded(torch.cat(parts), 8 * size).chunk(size)[rank]
    elif size == 1:
        rows = padded(torch.cat(parts), 8)
    else:
        chunks = [padded(part, 2 * size).chunk(2 * size) for part in parts]
        rows = padded(torch.cat([torch.cat([c[rank], c[2 * size - 1 - rank]]) for c in chunks]), 8)
    return rows[None, :, shard].contiguous()


def padded(rows, multiple):
    return torch.nn.functional.pad(rows, (0, 0, 0, -len(rows) % multiple))
