"""What a run's loss asks of its teacher, and what it is at each row: settings to lists and plans."""

from __future__ import annotations

from .losses import LOSSES
from .options import Options
from .row_plan import RowPlan
from .slime_options import SlimeOptions


def is_dense(options: Options) -> bool:
    """The loss reads whole distributions and so cannot be an advantage."""
    return LOSSES[options.loss].dense


def is_interpolated(options: Options) -> bool:
    """TAID's schedule moves the loss's target."""
    return LOSSES[options.loss].interpolated


def has_sampled_term(options: SlimeOptions) -> bool:
    """Sampled-token OPD is a term of the objective: alone, in entropy-aware OPD as published, or where asked for."""
    return LOSSES[options.loss].sampled(options) or options.add_sampled_token


def lists_of(options: SlimeOptions) -> int:
    """K, entries of the teacher's list that the loss reads; 0 where it reads none."""
    return (options.loss_top_k or options.topk_metrics_k) if is_dense(options) else 0


def asked_of_teacher(options: SlimeOptions) -> int:
    """Entries of the teacher's list that selection, metrics and the loss read together."""
    return max(options.topk_metrics_k, lists_of(options))


def row_plan(options: Options, taid_t: float, vocabulary: int) -> RowPlan:
    """What a dense loss computes at each row. taid_t: the schedule's t. vocabulary: V. An invariant: it is dense."""
    return LOSSES[options.loss].plan(options, taid_t, vocabulary)
