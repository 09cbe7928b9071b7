"""What the settings of a run must be: each check says what was given, what is allowed, and why. Talks to nobody."""

from __future__ import annotations

import logging
import math
from argparse import Namespace
from dataclasses import fields

from slime.utils.opd_loss_checks import check_loss
from slime.utils.opd_versions import PATHS, TRAINER_HOOKS, full_support
from ta_opd.methods import find_selector
from ta_opd.option_fields import flag
from ta_opd.slime_options import SlimeOptions

logger = logging.getLogger(__name__)

_OF_A_SERVER = (
    "topk_metrics_k",
    "normaliser",
    "mask_target",
    "task_reward",
    "token_bank_dir",
    "exact_cmass",
    "teacher_url",
)
"""Settings that only OPD with a teacher behind a server reads."""


def fill_in_hooks(args: Namespace) -> None:
    """Point slime's hook settings at this patch where the user left them empty: the trainer's where slime has the
    advantage hook, the rollout's where the teacher is a server. Raises ValueError where a hook this patch cannot do
    without is somebody else's."""
    wanted = set(TRAINER_HOOKS) if full_support(args) else set()
    if args.opd_type == "sglang":
        wanted |= set(PATHS) - set(TRAINER_HOOKS)
    for name, path in PATHS.items():
        if name not in wanted:
            continue
        if getattr(args, name) is None:
            setattr(args, name, path)
        elif getattr(args, name) != path:
            flag = f"--{name.replace('_', '-')}"
            if name == "custom_rm_path":
                raise ValueError(f"{flag} {getattr(args, name)}: name your reward with --opd-task-reward instead")
            if name in (*TRAINER_HOOKS, "custom_reward_post_process_path"):
                raise ValueError(f"{flag} {getattr(args, name)} takes the place of {path}, which OPD needs")
            logger.warning("%s is %s; %s", flag, getattr(args, name), _LEFT_OUT[name])


_LEFT_OUT = {
    "custom_generate_function_path": "it must call slime.rollout.opd_generate.record_student_topk after each request",
    "custom_rollout_log_function_path": (
        "let it call slime.rollout.on_policy_distillation.remember_rollout as well, or a resumed run counts from 0"
    ),
}


def check_settings(args: Namespace, options: SlimeOptions) -> None:
    """Raises ValueError for settings under which the numbers would be wrong."""
    coefficient = getattr(args, "opd_kl_coef", 1.0)
    if not 0 <= coefficient < math.inf:
        raise ValueError(f"--opd-kl-coef {coefficient} is outside 0 or more")
    check_loss(args, options)
    if not getattr(args, "compute_advantages_and_returns", True):
        raise ValueError("--disable-compute-advantages-and-returns: the OPD term is in the advantage")
    if args.opd_type == "megatron":
        check_megatron_teacher(options)
    else:
        check_server_teacher(args, options)
        check_rewards(args, options)
        check_tier(args, options)


def check_megatron_teacher(options: SlimeOptions) -> None:
    """Raises ValueError for what needs a teacher behind a server."""
    if find_selector(options.budget_mask).mask != "full":
        raise ValueError(
            f"--opd-budget-mask {options.budget_mask} with --opd-type megatron: token selection reads the "
            "teacher's top-k, which only an SGLang teacher gives; use --opd-type sglang or --opd-budget-mask none"
        )
    for f in fields(SlimeOptions):
        if f.name in _OF_A_SERVER and getattr(options, f.name) != f.default:
            raise ValueError(f"{flag(f.name)} {getattr(options, f.name)} does nothing with --opd-type megatron")


def check_server_teacher(args: Namespace, options: SlimeOptions) -> None:
    """Raises ValueError for a rollout whose distribution an SGLang teacher cannot score, and for scores that are
    missing or lead nowhere."""
    for name, needed in (("rollout_temperature", 1.0), ("rollout_top_p", 1.0), ("rollout_top_k", -1)):
        if getattr(args, name, needed) != needed:
            raise ValueError(
                f"--{name.replace('_', '-')} {getattr(args, name)} with an SGLang teacher: it must be {needed}. SGLang "
                "scores given tokens at temperature 1 over the whole vocabulary whatever it is asked, so student and "
                "teacher would be compared under different distributions"
            )
    if options.token_bank_dir and options.topk_metrics_k == 0:
        raise ValueError("--opd-token-bank-dir needs --opd-topk-metrics-k above 0; the paper uses 16")
    if options.mask_target == "loss" and getattr(args, "advantage_estimator", None) == "reinforce_plus_plus":
        raise ValueError(
            "--opd-mask-target loss with --advantage-estimator reinforce_plus_plus: slime puts the reward on a "
            "sample's last token of the loss mask, which selection moves or, without a teacher, removes"
        )


def check_rewards(args: Namespace, options: SlimeOptions) -> None:
    """Raises ValueError for a task reward or an evaluation that has no judge."""
    rm_type = (getattr(args, "rm_type", None) or "").strip()
    if options.task_reward == "rm" and not rm_type:
        raise ValueError("--opd-task-reward rm needs --rm-type")
    if rm_type == "remote_rm" and not options.teacher_url:
        raise ValueError("--rm-type remote_rm asks --rm-url for rewards: name the teacher with --opd-teacher-url")
    if getattr(args, "eval_datasets", None) and not rm_type:
        # slime hands every dataset the run's own reward, which asks the teacher and judges nothing.
        own = (None, PATHS["custom_rm_path"])
        unjudged = [d.name for d in args.eval_datasets if getattr(d, "custom_rm_path", None) in own and not d.rm_type]
        if unjudged:
            raise ValueError(f"evaluation of {', '.join(unjudged)} needs --rm-type: the teacher is no judge")


def check_tier(args: Namespace, options: SlimeOptions) -> None:
    """Raises ValueError for what this version of slime cannot do."""
    if full_support(args):
        return
    if options.mask_target != "loss":
        raise ValueError(
            f"--opd-mask-target {options.mask_target} needs slime v0.3.0 or later; this one has no advantage hook, so "
            "only --opd-mask-target loss works"
        )
    if options.normaliser == "selected" and not getattr(args, "calculate_per_token_loss", False):
        raise ValueError("--opd-normaliser selected needs slime v0.3.0 or later, or --calculate-per-token-loss")
    if getattr(args, "normalize_advantages", False):
        raise ValueError(
            "--normalize-advantages with OPD needs slime v0.3.0 or later: slime whitens after the OPD term"
        )
