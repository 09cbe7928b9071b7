"""What a row's statistics give in closed form, its loss, and the coefficients of its gradient.

Axes: n rows. lse: log-sum-exp of the logits over the temperature; s, t, q those of student, teacher and target.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..divergences import entropy_aware
from ..row_plan import Divergence, RowPlan
from ..support import LOG_FLOOR

FORWARD, REVERSE = Divergence("forward_kl"), Divergence("reverse_kl")


@dataclass(frozen=True)
class RowScalars:
    """float32 [n] each, nats; NaN where the first read cannot tell.

    The first eight at the plan's temperature. forward_slope, base_slope: sum of u, the entries' slopes in the
    student's log-probs. by_entries: bool, a reverse KL goes through its entries. unit_lse and what follows: at
    temperature 1; student_label: the sampled token's logit.
    """

    student_lse: Tensor
    teacher_lse: Tensor
    target_lse: Tensor
    teacher_entropy: Tensor
    forward_kl: Tensor
    reverse_kl: Tensor
    cross_entropy: Tensor
    forward_slope: Tensor
    base: Tensor
    base_slope: Tensor
    by_entries: Tensor
    unit_lse: Tensor
    student_entropy: Tensor
    student_label: Tensor
    student_logprob: Tensor
    teacher_logprob: Tensor

    @property
    def normalisers(self) -> Tensor:
        return torch.stack((self.student_lse, self.teacher_lse, self.target_lse), -1)


def closed_forms(statistics: Tensor, unit: Tensor, plan: RowPlan) -> RowScalars:
    """From [n, 12] over the whole vocabulary (block.STATISTICS) at the plan's temperature and at temperature 1.

    KL(Q || S) = t E_Q[t - s] - lse_Q + lse_S and KL(S || Q) = t E_S[s - t] - lse_S + lse_Q, t being TAID's.
    """
    s_lse, t_lse, _, t_mean, s_gap, _, q_lse, q_mean, q_gap, _, _, _ = statistics.unbind(-1)
    unit_lse, unit_t_lse, unit_mean, s_label, t_label = (unit[:, i] for i in (0, 1, 2, 9, 10))
    forward = plan.taid_t * q_gap - q_lse + s_lse
    reverse = plan.taid_t * s_gap - s_lse + q_lse
    unknown = torch.full_like(s_lse, torch.nan)
    base = {"forward_kl": forward, "reverse_kl": reverse}.get(plan.base.kind, unknown) if plan.base else unknown
    return RowScalars(
        s_lse,
        t_lse,
        q_lse,
        t_lse - t_mean,
        forward,
        reverse,
        forward + q_lse - q_mean,
        torch.full_like(s_lse, -1),
        base,
        unknown,
        torch.zeros_like(s_lse, dtype=torch.bool),
        unit_lse,
        unit_lse - unit_mean,
        s_label,
        (s_label - unit_lse).clamp(min=LOG_FLOOR),
        (t_label - unit_t_lse).clamp(min=LOG_FLOOR),
    )


def with_base(x: RowScalars, sums: Tensor, rows: Tensor | slice) -> RowScalars:
    """With sum e and sum u [m, 2] of the base divergence in these rows."""
    return replace(x, base=_put(x.base, rows, sums[:, 0]), base_slope=_put(x.base_slope, rows, sums[:, 1]))


def with_entries(x: RowScalars, sums: Tensor, rows: Tensor | slice) -> RowScalars:
    """With all that entry_sums tells, [m, 6] as stacked by `whole_sums`, in these rows."""
    base, base_slope, forward, forward_slope, reverse, cross = sums.unbind(-1)
    return replace(
        x,
        base=_put(x.base, rows, base),
        base_slope=_put(x.base_slope, rows, base_slope),
        forward_kl=_put(x.forward_kl, rows, forward),
        forward_slope=_put(x.forward_slope, rows, forward_slope),
        reverse_kl=_put(x.reverse_kl, rows, reverse),
        cross_entropy=_put(x.cross_entropy, rows, cross),
        by_entries=_put(x.by_entries, rows, torch.ones_like(base, dtype=torch.bool)),
    )


def with_rows(x: RowScalars, other: RowScalars, rows: Tensor) -> RowScalars:
    """With another's numbers [m] in these rows."""
    return RowScalars(*(_put(getattr(x, f.name), rows, getattr(other, f.name)) for f in fields(RowScalars)))


def whole_sums(sums_of, plan: RowPlan) -> Tensor:
    """[m, 6]: base e and u, forward KL e and u, reverse KL e, cross-entropy; sums_of(divergence) gives [m, 3]."""
    forward = sums_of(FORWARD)
    reverse = sums_of(REVERSE)
    base = {None: forward, FORWARD: forward, REVERSE: reverse}.get(plan.base)
    base = sums_of(plan.base) if base is None else base
    return torch.cat((base[:, :2], forward[:, :2], reverse[:, :1], forward[:, 2:]), -1)


def weighed(plan: RowPlan, teacher_entropy: Tensor, base: Tensor, forward: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, the base's weight, the forward KL's), [n] each; base is not read where the plan has none."""
    if plan.gate is None:
        return base.clone(), torch.ones_like(base), torch.zeros_like(base)
    base_weight, forward_weight = plan.gate.weights(teacher_entropy)
    if plan.base is None:
        base, base_weight = torch.zeros_like(forward), torch.zeros_like(base_weight)
    return entropy_aware(base, forward, (base_weight, forward_weight)), base_weight, forward_weight


def loss_coefficients(x: RowScalars, plan: RowPlan, upstream: Tensor) -> Tensor:
    """[n, 6], A B C F L J of block.RowBlock.gradient, for upstream [n] times the loss."""
    zero = torch.zeros_like(upstream)
    _, base, forward = weighed(plan, x.teacher_entropy, x.base, x.forward_kl)
    base, forward = upstream * base, upstream * forward
    a, b, j = -forward * x.forward_slope, zero, zero
    if plan.base == FORWARD:
        a, forward = a - base * x.forward_slope, forward + base
    elif plan.base == REVERSE:
        through_gap = plan.taid_t * base
        a = a - torch.where(x.by_entries, base * x.base_slope, base * (x.reverse_kl + x.student_lse - x.target_lse))
        b, j = torch.where(x.by_entries, 0, through_gap), torch.where(x.by_entries, base, 0)
    elif plan.base is not None:
        a, j = a - base * x.base_slope, base
    return torch.stack((a, b, zero, forward, zero, j), -1)


def sampled_coefficients(x: RowScalars, logprob: Tensor | None, entropy: Tensor | None) -> Tensor:
    """[n, 6] at temperature 1 for upstream [n] of the student's log-prob and entropy (None: 0)."""
    zero = torch.zeros_like(x.unit_lse)
    a, c, label = zero, zero, zero
    if logprob is not None:
        # An impossible token's log-prob is the floor, a constant; a token that is none (NaN) has no log-prob.
        constant = x.student_label.isnan() | (x.student_label == -torch.inf)
        label = torch.where(constant, 0, logprob)
        a = a - label
    if entropy is not None:
        a, c = a + entropy * (x.unit_lse - x.student_entropy), -entropy
    return torch.stack((a, zero, c, zero, label, zero), -1)


def _put(values: Tensor, rows: Tensor | slice, new: Tensor) -> Tensor:
    values = values.clone()
    values[rows] = new
    return values
