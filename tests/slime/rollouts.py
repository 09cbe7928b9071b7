"""slime's arguments and samples as these tests need them, built from both models' logits."""

from argparse import Namespace
from itertools import count

import numpy as np
import torch
from slime.utils.opd_versions import PATHS
from slime.utils.types import Sample
from ta_opd.support import TopK
from ta_opd.teacher.signal import TeacherSignal, TopKRows

VOCABULARY = 12
PROMPT = [1, 2, 3]


def arguments(**values):
    """A run with an SGLang teacher and every hook of ours."""
    defaults = {
        **PATHS,
        "use_opd": True,
        "opd_type": "sglang",
        "opd_kl_coef": 0.7,
        "rm_url": "http://teacher:1/generate",
        "rm_type": None,
        "reward_key": None,
        "eval_reward_key": None,
        "advantage_estimator": "grpo",
        "rewards_normalization": True,
        "grpo_std_normalization": True,
        "n_samples_per_prompt": 2,
        "rollout_batch_size": 4,
        "calculate_per_token_loss": False,
        "normalize_advantages": False,
        "use_rollout_logprobs": False,
        "use_rollout_routing_replay": False,
        "ta_opd_rollout": 0,
        "opd_topk_metrics_k": 4,
        "opd_max_missing": 1.0,
    }
    return Namespace(**(defaults | values))


def rows(logits, k):
    """The top-k of logits [R, V] as a sample carries them."""
    if not len(logits) or not k:
        return TopKRows.missing(len(logits), k)
    top = TopK.from_logits(logits, k)
    return TopKRows(top.ids.numpy(), top.logprobs.numpy())


def sampled(logits, token_ids):
    return torch.log_softmax(logits, -1).gather(1, token_ids[:, None])[:, 0]


def draw(seed, n, vocabulary=VOCABULARY):
    """Both models' logits [n, V] and sampled tokens [n]."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (2 * torch.randn(n, vocabulary, generator=generator) for _ in range(2))
    drawn = torch.multinomial(student.softmax(-1), 1, generator=generator)[:, 0] if n else torch.zeros(0).long()
    return student, teacher, drawn


def sample(seed, n, k=4, exact=False, **values):
    """A completed sample of n response tokens that both models scored."""
    student, teacher, drawn = draw(seed, n)
    top = rows(student, k)
    on_student = torch.log_softmax(teacher, -1).gather(1, torch.from_numpy(top.ids).long()).numpy() if exact else None
    built = Sample(
        group_index=0,
        index=seed,
        tokens=[*PROMPT, *drawn.tolist()],
        response_length=n,
        reward=0.0,
        rollout_log_probs=sampled(student, drawn).tolist(),
        status=Sample.Status.COMPLETED,
    )
    built.opd_student = top
    built.opd_teacher = TeacherSignal(sampled(teacher, drawn).numpy(), rows(teacher, k), on_student)
    for name, value in values.items():
        setattr(built, name, value)
    return built


def batch(seed, lengths, k=4, **values):
    """Samples in groups of two."""
    numbers = count()
    return [
        sample(seed * 1000 + i, n, k, **({"index": i, "group_index": i // 2} | values))
        for n, i in zip(lengths, numbers, strict=False)
    ]


def absent(built, reason="timeout"):
    """The sample, its teacher having failed."""
    built.opd_teacher = TeacherSignal.absent(built.response_length, built.opd_teacher.topk.k, reason)
    return built


def joined(values):
    return torch.cat([torch.as_tensor(np.asarray(v)).float() for v in values]) if values else torch.zeros(0)
