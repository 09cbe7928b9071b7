"""What differs between the supported versions of slime, found by looking and not by a version number."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from argparse import Namespace
from types import ModuleType

logger = logging.getLogger(__name__)

_ROLLOUT = "slime.rollout.on_policy_distillation"
_HOOKS = "slime.backends.megatron_utils.opd_hooks"
PATHS = {
    "custom_rm_path": f"{_ROLLOUT}.reward_func",
    "custom_reward_post_process_path": f"{_ROLLOUT}.post_process_rewards",
    "custom_rollout_log_function_path": f"{_ROLLOUT}.remember_rollout",
    "custom_generate_function_path": "slime.rollout.opd_generate.generate",
    "custom_advantage_function_path": f"{_HOOKS}.compute_advantages",
    "rollout_data_postprocess_path": f"{_HOOKS}.report",
    "custom_megatron_init_path": f"{_HOOKS}.initialize",
}
"""slime's hook settings and what belongs there."""

TRAINER_HOOKS = ("custom_advantage_function_path", "rollout_data_postprocess_path", "custom_megatron_init_path")

LOSS_PATH = "slime.backends.megatron_utils.opd_loss.opd_loss_function"
"""slime's --custom-loss-function-path for a loss of whole distributions."""


def full_support(args: Namespace) -> bool:
    """This slime has the advantage hook (v0.3.0 and later); older ones know the mask target `loss` alone."""
    return hasattr(args, "custom_advantage_function_path")


def trainer_unpacks(args: Namespace) -> bool:
    """The trainer runs our advantage hook and so reads packed rows."""
    name = "custom_advantage_function_path"
    return getattr(args, name, None) == PATHS[name]


def first_module(*names: str) -> ModuleType:
    """The first of several places a module has had. Raises ImportError naming them all."""
    for name in names:
        parent = name.rpartition(".")[0]
        if importlib.util.find_spec(parent) is not None and importlib.util.find_spec(name) is not None:
            return importlib.import_module(name)
    raise ImportError(f"this slime has none of {', '.join(names)}")


def log_rollout_metrics(args: Namespace, rollout_id: int, metrics: dict[str, float]) -> None:
    """Log metrics as `rollout/opd/<name>`, to slime's log and to its trackers."""
    named = {f"rollout/opd/{name}": value for name, value in metrics.items()}
    logger.info("rollout %s: %s", rollout_id, named)
    if not (getattr(args, "use_wandb", False) or getattr(args, "use_tensorboard", False)):
        return
    tracking = first_module("slime.observability.logging_utils", "slime.utils.logging_utils")
    steps = first_module("slime.observability.metric_utils", "slime.utils.metric_utils")
    named["rollout/step"] = steps.compute_rollout_step(args, rollout_id)
    tracking.log(args, named, step_key="rollout/step")
