"""The losses of whole distributions, as slime's custom loss.

    --loss-type custom_loss --custom-loss-function-path slime.backends.megatron_utils.opd_loss.opd_loss_function

loss = slime's policy loss + opd_loss_coef * sum of weight_t * L_t, divided as slime divides; L_t from
ta_opd.row_losses and ta_opd.topk_losses, weight_t as the rollout side packed it.
Axes: T rows of a micro-batch's logits; N response tokens they predict; V' this rank's columns of the vocabulary.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from slime.backends.megatron_utils import loss as slime_loss
from slime.backends.megatron_utils import opd_pack, opd_taid, opd_token_losses
from slime.backends.megatron_utils.opd_rows import (
    Layout,
    Places,
    TokenRows,
    as_slime_reduces,
    distilled,
    find_places,
    held,
    joined,
    lists_over_rows,
    over_rows,
    vocab_shard,
)
from slime.utils.opd_loss_checks import has_policy_loss
from slime.utils.opd_settings import slime_options
from ta_opd.loss_plan import is_interpolated, lists_of, row_plan
from ta_opd.row_losses import RowResult, row_losses
from ta_opd.row_plan import RowPlan
from ta_opd.slime_options import SlimeOptions
from ta_opd.teacher_head import TeacherHead
from ta_opd.topk_losses import topk_losses
from torch import Tensor

Reducer = Callable[[Tensor], Tensor]

MEANS = ("teacher_entropy", "student_entropy", "forward_kl", "reverse_kl", "cross_entropy", "gate")
"""Fields of RowResult whose means over distilled tokens are logged."""
SUM, COUNT = "ta_opd/sum/", "ta_opd/count"


def opd_loss_function(
    args: Namespace, batch: dict[str, Any], logits: Tensor, sum_of_sample_mean: Reducer
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a micro-batch and its numbers, as slime's own losses return them.

    logits: float32 [1, T, V'], or [1, n, V'] of the rows that opd_pack picked. May run twice on the same micro-batch
    (--recompute-loss-function): it changes nothing. Numbers named SUM... and COUNT are sums over tokens, which `means`
    turns into means once slime has added them up.
    """
    options = slime_options(args)
    total, log = None, {}
    if has_policy_loss(args, options):
        total, log = slime_loss.policy_loss_function(args, batch, logits, sum_of_sample_mean)
    elif batch.get("opd_reverse_kl"):
        log = {"opd_reverse_kl": sum_of_sample_mean(torch.cat(batch["opd_reverse_kl"])).detach().clone()}
    dense, sums = distillation_loss(args, options, batch, logits, sum_of_sample_mean)
    total = options.loss_coef * dense if total is None else total + options.loss_coef * dense
    return total, log | {"loss": total.detach().clone(), "opd/loss": dense.detach().clone()} | sums


def distillation_loss(
    args: Namespace, options: SlimeOptions, batch: dict[str, Any], logits: Tensor, sum_of_sample_mean: Reducer
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted loss that slime's reducer divides, and the sums over this rank's distilled tokens."""
    assert logits.ndim == 3 and logits.shape[0] == 1, f"logits of packed samples are [1, T, V']; got {logits.shape}"
    layout, packing = Layout.of(args), batch.get(opd_pack.KEY)
    row_count = logits.shape[1] if packing is None else packing.count
    places = find_places(batch["total_lengths"], batch["response_lengths"], layout, row_count)
    known = held(batch["unconcat_tokens"])
    weight, kept = distilled(args, known, places, logits.device)
    there = places if packing is None else replace(places, row=packing.packed(places.row))
    rows = _row_result(args, options, logits[0], known, there, over_rows(kept, there, logits.shape[1], False))
    index = there.row.to(logits.device)
    loss = rows.loss[index]
    token_losses = torch.where(kept, weight * loss, 0)
    numbers = {name: getattr(rows, name)[index].detach() for name in MEANS}
    opd_token_losses.record(batch, known, places, kept, weight, numbers | {"loss": loss.detach()})
    dense = sum_of_sample_mean(as_slime_reduces(token_losses, places, layout, batch, row_count))
    if not dense.requires_grad:
        dense = dense + 0 * logits.sum()  # no row is distilled here, yet every rank has to join the backward
    sums = {SUM + name: torch.where(kept, values, 0).sum() for name, values in numbers.items()}
    return dense, sums | {COUNT: kept.sum().float()}


def means(reduced: dict[str, float]) -> tuple[dict[str, float], dict[str, float] | None]:
    """slime's numbers of a step, with opd/<name> in the place of our sums, and those means; None for the means where
    no token of the step was distilled or the numbers are another loss's."""
    numbers = {name: value for name, value in reduced.items() if not name.startswith("ta_opd/")}
    if reduced.get(COUNT, 0) == 0:
        return numbers, None
    found = {name: reduced[SUM + name] / reduced[COUNT] for name in MEANS}
    return numbers | {f"opd/{name}": value for name, value in found.items()}, found


def _row_result(
    args: Namespace, options: SlimeOptions, logits: Tensor, known: list[TokenRows], places: Places, keep: Tensor
) -> RowResult:
    """The losses of T rows [T, V'], which are read where they lie: picking the kept ones out would copy them."""
    shard = vocab_shard(args, logits.shape[1])
    plan = _plan(options, shard.vocabulary)
    if not lists_of(options):
        hidden = joined([rows.hidden for rows in known], places, logits.device)
        teacher = TeacherHead(over_rows(hidden, places, len(logits), 0), known[0].head)
        return row_losses(logits, teacher, plan, keep=keep, shard=shard)
    lists = lists_over_rows([rows.topk for rows in known], places, len(logits), logits.device)
    entropy = None
    if known[0].entropy is not None:
        entropy = over_rows(joined([rows.entropy for rows in known], places, logits.device), places, len(logits), 0)
    form = options.loss_top_k_form
    return topk_losses(logits, lists, plan, form=form, keep=keep, shard=shard, teacher_entropy=entropy)


def _plan(options: SlimeOptions, vocabulary: int) -> RowPlan:
    return row_plan(options, opd_taid.current_t() if is_interpolated(options) else 1.0, vocabulary)
