"""On-policy distillation from a teacher behind an SGLang server: slime's reward and reward post-process hooks.

    --custom-rm-path slime.rollout.on_policy_distillation.reward_func
    --custom-reward-post-process-path slime.rollout.on_policy_distillation.post_process_rewards

`reward_func` asks the teacher about a response and returns its task reward; `post_process_rewards` selects the tokens
to distil once the rollout batch is complete. Evaluation samples get their task reward and never see the teacher.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from slime.rollout.opd_rewards import normalise_rewards, reward_value, without_reward
from slime.rollout.tip_compat import (
    apply_mask,
    asks_teacher,
    batch_of,
    select,
    statistics,
    student_topk,
    teacher_urls,
    write_token_bank,
)
from slime.utils.opd_checks import check_settings
from slime.utils.opd_settings import slime_options
from slime.utils.opd_versions import PATHS, log_rollout_metrics, trainer_unpacks
from ta_opd.loss_plan import asked_of_teacher
from ta_opd.rollout_metrics import SAMPLE_METRICS, ratios
from ta_opd.slime_options import SlimeOptions
from ta_opd.teacher.signal import TeacherSignal

logger = logging.getLogger(__name__)


async def reward_func(args: Namespace, sample: Any, **kwargs: Any) -> Any:
    """slime's --custom-rm-path: the task reward of a Sample, or a list of them for a list (--group-rm, fan-out).

    The teacher's answer stays on the sample as compact arrays (`sample.opd_teacher`). A teacher that fails leaves the
    sample without a signal and never raises; the task reward's own errors do.
    """
    if isinstance(sample, list):
        return await asyncio.gather(*(reward_func(args, one, **kwargs) for one in sample))
    options = slime_options(args)
    if is_evaluation(sample) or not asks_teacher(args):
        return await task_reward(args, sample, options, evaluation=is_evaluation(sample))
    reward, sample.opd_teacher = await asyncio.gather(
        task_reward(args, sample, options, evaluation=False), ask_teacher(args, sample, options)
    )
    return reward


async def batched_reward_func(args: Namespace, samples: list[Any], **kwargs: Any) -> list[Any]:
    """reward_func under the parameter names slime's contract for --group-rm checks."""
    return await reward_func(args, samples, **kwargs)


def post_process_rewards(args: Namespace, samples: list[Any]) -> tuple[list[float], list[float]]:
    """slime's --custom-reward-post-process-path: (raw rewards, rewards normalised by group as slime does).

    With OPD on, also selects the tokens to distil and writes the mask, the carrier and the token bank. Raises
    RuntimeError when more than --opd-max-missing of the valid tokens have no signal to select by, ValueError, on its
    first call, for settings under which the numbers would be wrong (slime.utils.opd_checks).
    """
    for sample in without_reward(samples):
        # slime itself would fail here: an aborted sample never reached its reward, so it may not train on one.
        sample.remove_sample = True
    raw = [reward_value(args, sample) for sample in samples]
    rewards = normalise_rewards(args, samples, raw)
    if asks_teacher(args) and samples:
        options = slime_options(args)
        if not hasattr(args, "ta_opd_checked"):
            check_settings(args, options)
            args.ta_opd_checked = True
        distil(args, samples, options)
    return raw, rewards


def distil(args: Namespace, samples: Sequence[Any], options: SlimeOptions) -> None:
    """Select the tokens to distil and write the mask, the carrier, the token bank and the metrics."""
    rollout_id = current_rollout(args)
    batch = batch_of(samples, options)
    selection = select(batch, rollout_id)
    if options.token_bank_dir:
        write_token_bank(batch, selection, rollout_id, seed=getattr(args, "rollout_seed", 0))
    packed = trainer_unpacks(args)
    of_samples = statistics(batch, selection)
    apply_mask(batch, selection, packed=packed, per_token=getattr(args, "calculate_per_token_loss", False))
    metrics = {
        "tokens_kept": selection.kept,
        "tokens_valid": selection.valid,
        "tokens_not_scored": selection.not_scored,
        "kept_by_tie_break": selection.tied,
        **{f"teacher_failed/{reason}": count for reason, count in batch.failures().items()},
    }
    if packed and not getattr(args, "use_rollout_routing_replay", False):
        # The one field that slime carries whole, of any shape, and ignores unless it replays routing.
        for sample, part in zip(samples, of_samples, strict=True):
            sample.rollout_routed_experts = part.numpy()
    else:
        metrics |= ratios(SAMPLE_METRICS, of_samples.sum(0))
    log_rollout_metrics(args, rollout_id, metrics)
    check_missing(
        missing=ratios(SAMPLE_METRICS, of_samples.sum(0)).get("missing_share", 0.0),
        not_scored=selection.not_scored / max(selection.valid, 1),
        failures=batch.failures(),
        options=options,
    )


def check_missing(missing: float, not_scored: float, failures: dict[str, int], options: SlimeOptions) -> None:
    """Raises RuntimeError when the share of valid tokens without a teacher, or without a score to be selected by, is
    above --opd-max-missing."""
    limit = f"--opd-max-missing allows {options.max_missing:.1%}"
    if missing > options.max_missing:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(failures.items())) or "single tokens"
        raise RuntimeError(
            f"{missing:.1%} of the rollout's valid tokens have no teacher; {limit}. Samples that failed: {reasons}"
        )
    if not_scored > options.max_missing:
        raise RuntimeError(
            f"{not_scored:.1%} of the rollout's valid tokens have no score for {options.budget_mask}; {limit}. The "
            f"student's top-k is recorded by {PATHS['custom_generate_function_path']}, and in a generate function of "
            "your own by slime.rollout.opd_generate.record_student_topk"
        )


def is_evaluation(sample: Any) -> bool:
    """Evaluation samples: marked by our generate function, else those without a group (slime's training data source
    numbers its groups)."""
    return getattr(sample, "opd_evaluation", sample.group_index is None)


async def task_reward(args: Namespace, sample: Any, options: SlimeOptions, evaluation: bool) -> Any:
    """0.0, slime's --rm-type, or the function --opd-task-reward names; evaluation, and training without a teacher to
    ask, take slime's --rm-type.

    With --reward-key (in evaluation --eval-reward-key first), a mapping that has the key. Raises ValueError when
    evaluation has no reward to take.
    """
    from slime.utils.misc import load_function

    if evaluation and asks_teacher(args) and not _has_rm_type(args, sample):
        raise ValueError(
            "evaluation under OPD needs --rm-type, or a custom_rm_path in its dataset: the teacher is no judge"
        )
    key = getattr(args, "reward_key", None)
    if evaluation:
        key = getattr(args, "eval_reward_key", None) or key
    if _has_rm_type(args, sample) and (evaluation or options.task_reward == "rm" or not asks_teacher(args)):
        value = await _slime_reward(args, sample)
    elif options.task_reward not in ("none", "rm"):
        value = load_function(options.task_reward)(args, sample)
        value = await value if inspect.isawaitable(value) else value
    elif options.task_reward == "rm" and asks_teacher(args):
        raise ValueError("--opd-task-reward rm needs --rm-type")
    else:
        value = 0.0
    if isinstance(value, dict):
        if key is None or key not in value:
            flag = "--eval-reward-key" if evaluation else "--reward-key"
            raise ValueError(f"the task reward has the keys {', '.join(map(str, value))}; name one with {flag}")
        return value
    return value if key is None else {key: value}


def _has_rm_type(args: Namespace, sample: Any) -> bool:
    metadata = sample.metadata if isinstance(sample.metadata, dict) else {}
    return bool((metadata.get("rm_type") or getattr(args, "rm_type", None) or "").strip())


async def _slime_reward(args: Namespace, sample: Any) -> Any:
    """slime's own dispatch on --rm-type, past the custom reward that this module is."""
    from slime.rollout.rm_hub import async_rm

    args, sample = copy.copy(args), copy.copy(sample)
    args.custom_rm_path = sample.custom_rm_path = None
    return await async_rm(args, sample)


async def ask_teacher(args: Namespace, sample: Any, options: SlimeOptions) -> TeacherSignal:
    """The teacher's answer about a sample's response; absent, with the reason, where there is none to be had."""
    from ta_opd.teacher.client import ScoreRequest, client_for

    k = asked_of_teacher(options)
    if sample.status == type(sample).Status.ABORTED:
        return TeacherSignal.absent(sample.response_length, k, "aborted")
    images = (sample.multimodal_inputs or {}).get("images") or ()
    if images:
        from slime.utils.processing_utils import encode_image_for_rollout_engine

        images = [encode_image_for_rollout_engine(image) for image in images]
    metadata = sample.metadata if isinstance(sample.metadata, dict) else {}
    request = ScoreRequest(
        tokens=sample.tokens,
        response_length=sample.response_length,
        top_k=k,
        student_ids=student_topk(sample, options.topk_metrics_k).ids if options.exact_cmass else None,
        url=metadata.get("opd_teacher_url"),
        image_data=images,
        label=f"sample {sample.index}",
    )
    return await client_for(options, teacher_urls(args, options)).score(request)


def remember_rollout(
    rollout_id: int, args: Namespace, samples: Any, rollout_extra_metrics: Any, rollout_time: float
) -> bool:
    """slime's --custom-rollout-log-function-path: notes the rollout's number, which post_process_rewards is not told,
    and leaves the logging to slime (False)."""
    args.ta_opd_rollout = rollout_id
    return False


def current_rollout(args: Namespace) -> int:
    """The number of the rollout being post-processed. Without remember_rollout it is counted, and starts anew with
    the process."""
    if not hasattr(args, "ta_opd_rollout"):
        number = getattr(args, "ta_opd_counted", -1) + 1
        if number == 0:
            logger.warning(
                "counting rollouts from 0; a resumed run needs --custom-rollout-log-function-path %s",
                PATHS["custom_rollout_log_function_path"],
            )
        args.ta_opd_counted = number
        return number
    return args.ta_opd_rollout
