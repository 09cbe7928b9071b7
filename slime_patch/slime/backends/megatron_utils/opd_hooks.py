"""Train-side hooks: the OPD term on selected tokens, its metrics, and two mends of slime's trainer.

    --custom-advantage-function-path slime.backends.megatron_utils.opd_hooks.compute_advantages
    --rollout-data-postprocess-path slime.backends.megatron_utils.opd_hooks.report
    --custom-megatron-init-path slime.backends.megatron_utils.opd_hooks.initialize

The three belong together. Per token t of a sample: A_t = base_t - opd_kl_coef * w_t * (log p_S - log p_T), where base_t
is slime's advantage, whitened or not, and w_t the weight the rollout side packed (0 where the token is not selected).
A loss of whole distributions leaves A_t = base_t, unless sampled-token OPD is its base, and gets w_t and the teacher's
lists instead.
"""

from __future__ import annotations

import copy
import logging
from argparse import Namespace
from dataclasses import dataclass, replace
from typing import Any

import torch
from slime.backends.megatron_utils import cp_utils, loss, opd_rows, opd_taid, opd_teacher, opd_token_losses
from slime.backends.megatron_utils.opd_wraps import (
    log_reverse_kl_in_training,
    logs_for_all,
    pack_before_the_head,
    report_dense_losses,
    return_to_actor_after_loading,
    save_taid_with_checkpoints,
    take_teacher_distributions,
    write_token_losses,
)
from slime.utils.opd_loss_checks import check_packed_head
from slime.utils.opd_settings import slime_options
from slime.utils.opd_versions import PATHS, TRAINER_HOOKS, log_rollout_metrics
from ta_opd.carrier import Carried, unpack
from ta_opd.loss_plan import has_sampled_term, is_dense, lists_of
from ta_opd.rollout_metrics import REVERSE_KL_METRICS, SAMPLE_METRICS, ratios, reverse_kl_statistics
from torch import Tensor, distributed

logger = logging.getLogger(__name__)

_CARRIED = "ta_opd_carried"


@dataclass(frozen=True)
class _Term:
    """What the OPD term of a rank's samples was made of, kept from compute_advantages for report: lists of [R].
    own: what came from the forward of a teacher in the trainer, see opd_teacher.take."""

    carried: list[Carried]
    reverse_kl: list[Tensor]
    own: list[dict[str, Any]] | None


def initialize(args: Namespace) -> None:
    """slime's --custom-megatron-init-path: run in each train actor before its model is built.

    slime whitens advantages after the custom hook has run, which would turn the zeros of unselected tokens into
    something else; the whitening is therefore taken over by compute_advantages. Raises RuntimeError where slime's
    functions are not the ones this patch knows, ValueError where a hook of the three is missing or a setting of the
    trainer's cannot work.
    """
    if not getattr(args, "use_opd", False):
        return
    for name in TRAINER_HOOKS:
        if getattr(args, name, None) != PATHS[name]:
            raise ValueError(f"--{name.replace('_', '-')} must be {PATHS[name]}; got {getattr(args, name, None)}")
    options = slime_options(args)
    log_reverse_kl_in_training()
    return_to_actor_after_loading()
    if is_dense(options):
        report_dense_losses()
        save_taid_with_checkpoints()
        take_teacher_distributions(lists_of(options))
        opd_taid.forget()
    if options.pack_head:
        check_packed_head(args, options)
        pack_before_the_head()
    if options.token_loss_dir:
        opd_token_losses.check_folder(options.token_loss_dir)
        write_token_losses()
    if not hasattr(args, "ta_opd_whiten"):
        args.ta_opd_whiten, args.normalize_advantages = args.normalize_advantages, False


def compute_advantages(args: Namespace, rollout_data: dict[str, Any]) -> None:
    """slime's --custom-advantage-function-path: sets `advantages` and `returns` of a rank's samples.

    slime subtracts its own OPD term right after this hook; it is made exactly zero by handing it the student's
    log-probs as the teacher's, until `report` puts the real ones back.
    """
    own = opd_teacher.take(rollout_data)
    if not hasattr(args, "ta_opd_whiten"):
        raise ValueError(f"the advantage hook needs --custom-megatron-init-path {PATHS['custom_megatron_init_path']}")
    student = rollout_data.get("rollout_log_probs" if args.use_rollout_logprobs else "log_probs")
    if student is None and rollout_data.get("values") is not None:
        # A critic, which slime gives the actor's hooks: it has values to fit and nothing to distil.
        loss.compute_advantages_and_returns(_base(args), rollout_data)
        return
    if student is None:
        raise ValueError("OPD needs the student's log-probs; neither the trainer nor the rollout gave them")
    if rollout_data.get("teacher_log_probs") is None:
        raise ValueError(
            "OPD is on but no teacher log-probs came with the rollout: "
            f"--custom-reward-post-process-path must be {PATHS['custom_reward_post_process_path']}"
        )
    carried = [
        unpack(rows.to(device=log_s.device), None if rows.ndim == 2 else _loss_mask(rollout_data, index))
        for index, (rows, log_s) in enumerate(zip(rollout_data["teacher_log_probs"], student, strict=True))
    ]
    loss.compute_advantages_and_returns(_base(args), rollout_data)
    reverse_kl = [
        torch.where(rows.known, log_s - rows.teacher_logprob, 0) for log_s, rows in zip(student, carried, strict=True)
    ]
    if has_sampled_term(slime_options(args)):
        rollout_data["advantages"] = [
            torch.where(rows.kept, advantage - args.opd_kl_coef * (rows.weight * difference), advantage)
            for advantage, rows, difference in zip(rollout_data["advantages"], carried, reverse_kl, strict=True)
        ]
    rollout_data["teacher_log_probs"] = student
    rollout_data[_CARRIED] = _Term(carried, reverse_kl, own)


def _base(args: Namespace) -> Namespace:
    """slime's arguments without OPD and without this hook."""
    base = copy.copy(args)
    base.use_opd, base.custom_advantage_function_path, base.normalize_advantages = False, None, args.ta_opd_whiten
    return base


def _loss_mask(rollout_data: dict[str, Any], index: int) -> Tensor:
    """bool [R], a sample's loss mask on the tokens this context-parallel rank holds."""
    mask = rollout_data["loss_masks"][index]
    length, response = rollout_data["total_lengths"][index], rollout_data["response_lengths"][index]
    return cp_utils.slice_log_prob_with_cp(mask, length, response) != 0


def report(args: Namespace, rollout_id: int, rollout_data: dict[str, Any]) -> None:
    """slime's --rollout-data-postprocess-path: puts teacher log-probs and reverse KL under slime's names, logs ours.

    Logs `rollout/opd/<metric>` (ta_opd.rollout_metrics) once, exact over all data- and context-parallel ranks.
    `rollout_data["opd_reverse_kl"]` is log p_S - log p_T of every token, 0 where there is no teacher, and stays for the
    loss to log as `train/opd_reverse_kl`.
    """
    statistics = None
    if not getattr(args, "use_rollout_routing_replay", False):
        statistics = rollout_data.pop("rollout_routed_experts", None)
    term = rollout_data.pop(_CARRIED, None)
    if term is None:
        return
    student = rollout_data["teacher_log_probs"]
    rollout_data["teacher_log_probs"] = [
        torch.where(rows.known, rows.teacher_logprob, log_s) for log_s, rows in zip(student, term.carried, strict=True)
    ]
    rollout_data["opd_reverse_kl"] = term.reverse_kl
    options = slime_options(args)
    if is_dense(options):
        opd_rows.hold(rollout_data["tokens"], _token_rows(args, rollout_data, term))
        opd_token_losses.begin(options.token_loss_dir, rollout_id)
        # Before the collective below, so before any rank has trained on the rollout and writes.
        if options.token_loss_dir and logs_for_all():
            opd_token_losses.clear(options.token_loss_dir, rollout_id)
    metrics = reduced_metrics(term.reverse_kl, term.carried, statistics)
    if logs_for_all():
        log_rollout_metrics(args, rollout_id, metrics)


def _token_rows(args: Namespace, rollout_data: dict[str, Any], term: _Term) -> list[opd_rows.TokenRows]:
    """What the loss is to know. Under all-gather context parallelism a rank's logits are other tokens' than its zigzag
    share of the carrier: there every rank gets whole samples. A teacher in the trainer ran in the loss's own layout."""
    result = [opd_rows.TokenRows(part.weight, part.topk) for part in term.carried]
    if opd_rows.Layout.of(args).gathered:
        lengths = zip(rollout_data["total_lengths"], rollout_data["response_lengths"], strict=True)
        result = [opd_rows.whole_rows(part, *length) for part, length in zip(result, lengths, strict=True)]
    if term.own is not None:
        result = [replace(part, **fields) for part, fields in zip(result, term.own, strict=True)]
    if rollout_data.get("sample_indices") is not None:  # a conversion of the user's own may leave them out
        numbers = zip(result, rollout_data["sample_indices"], strict=True)
        result = [replace(part, sample_index=number) for part, number in numbers]
    return result


def reduced_metrics(
    reverse_kl: list[Tensor], carried: list[Carried], statistics: list[Tensor] | None
) -> dict[str, float]:
    """Metrics over all data- and context-parallel ranks; a collective, every rank of the group takes part.

    reverse_kl, carried: this rank's rows. statistics: float64 [S, 2] of each of its samples, or None.
    """
    from megatron.core import mpu

    rows = reverse_kl_statistics(
        reverse_kl, [c.valid for c in carried], [c.known for c in carried], [c.kept for c in carried]
    )
    names = REVERSE_KL_METRICS
    if statistics is not None:
        names += SAMPLE_METRICS
        # Each context-parallel rank holds whole samples' statistics: the ratios do not change by counting them again.
        rows = torch.cat([rows, torch.stack([torch.as_tensor(part).double().cpu() for part in statistics]).sum(0)])
    distributed.all_reduce(rows, group=mpu.get_data_parallel_group_gloo(with_context_parallel=True))
    return ratios(names, rows)
