"""Task rewards beside distillation: slime's group normalisation, by group and not by position."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

CENTRED = ("grpo", "gspo", "cispo", "reinforce_plus_plus_baseline")
SCALED = ("grpo", "gspo", "cispo")
"""Estimators whose rewards slime centres within a group, and those it also divides by the group's deviation."""


def without_reward(samples: Sequence[Any]) -> list[Any]:
    """Samples that never reached their reward: aborted ones."""
    return [sample for sample in samples if sample.reward is None]


def reward_value(args: Namespace, sample: Any) -> float:
    """A sample's raw task reward; 0.0 for one that has none and is out of the loss (see without_reward).

    Raises ValueError for a reward that is no number, such as the answer of a server.
    """
    value, key = sample.reward, getattr(args, "reward_key", None)
    if value is None:
        return 0.0
    if isinstance(value, dict):
        if key not in value:
            raise ValueError(
                f"sample {sample.index} has a reward of {', '.join(map(str, value))}; --reward-key is {key}"
            )
        value = value[key]
    if isinstance(value, (np.generic, torch.Tensor)) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, (int, float)):
        raise ValueError(f"sample {sample.index} has a reward of type {type(value).__name__}; a number is needed")
    return value


def normalise_rewards(args: Namespace, samples: Sequence[Any], raw: Sequence[float]) -> list[float]:
    """Rewards as slime normalises them: centred within a group, for most estimators also divided by its deviation.

    A group is what shares `group_index`, so that groups may differ in size; where slime's own rule applies (equal
    groups, in order) the numbers are slime's. A sample without a reward is left out of its group's statistics and gets
    0; a group of one is only centred.
    """
    if getattr(args, "advantage_estimator", None) not in CENTRED or not getattr(args, "rewards_normalization", False):
        return list(raw)
    scaled = args.advantage_estimator in SCALED and getattr(args, "grpo_std_normalization", False)
    groups: dict[Any, list[int]] = {}
    for index, sample in enumerate(samples):
        if sample.reward is not None:
            groups.setdefault(_group(args, sample, index), []).append(index)
    result = [0.0] * len(samples)
    for members in groups.values():
        values = torch.tensor([raw[index] for index in members], dtype=torch.float)
        values = values - values.mean(dim=-1, keepdim=True)
        if scaled and len(members) > 1:
            values = values / (values.std(dim=-1, keepdim=True) + 1e-6)
        for index, value in zip(members, values.tolist(), strict=True):
            result[index] = value
    return result


def _group(args: Namespace, sample: Any, index: int) -> Any:
    if sample.group_index is not None:
        return sample.group_index
    return ("position", index // max(getattr(args, "n_samples_per_prompt", 1), 1))
