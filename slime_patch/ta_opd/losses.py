"""The table of losses: a name on the command line to what it computes at each token.

A dense loss reads whole distributions: its RowPlan is computed by row_losses from full logits or by topk_losses from
the teacher's top-k list. sampled_token reads two numbers a token, and so does entropy_aware's first term as published.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from . import divergences
from .row_losses import row_losses
from .row_plan import Divergence, EntropyGate, RowPlan
from .support import TopK
from .topk_losses import topk_losses

if TYPE_CHECKING:
    from .options import Options


class LossInputs(NamedTuple):
    """What a loss may read, for the same N response tokens.

    student_logits, teacher_logits: [N, V], None for sampled-token OPD. student_logprob, teacher_logprob,
    rollout_logprob: [N], nats, of the sampled token under the current student, the teacher, the sampling student.
    taid_t: the schedule's t.
    """

    student_logits: Tensor | None
    teacher_logits: Tensor | None
    student_logprob: Tensor
    teacher_logprob: Tensor
    rollout_logprob: Tensor | None
    taid_t: float = 1.0


@dataclass(frozen=True)
class Loss:
    """base, gated, interpolated: which parts the dense term has, of RowPlan's base divergence, entropy gate and TAID.
    sampled: whether sampled-token OPD is a term. top_k_form: how the loss reads the teacher's top-k of full logits, as
    its authors do; None: it has no such form. Called with LossInputs and Options, gives the loss of each token, [N]."""

    formula: str
    base: Callable[[Options], Divergence | None] | None = None
    sampled: Callable[[Options], bool] = lambda o: False
    gated: bool = False
    interpolated: bool = False
    top_k_form: str | None = None

    @property
    def dense(self) -> bool:
        """The loss reads whole distributions: as an advantage it would be a constant of its position."""
        return self.base is not None

    def plan(self, o: Options, taid_t: float, vocabulary: int) -> RowPlan:
        """The dense term. taid_t: the schedule's t, read by TAID alone. vocabulary: V, whose log is the h_max of a gate
        that names none."""
        assert self.base is not None, "sampled-token OPD has no plan"
        gate = EntropyGate(
            o.entropy_gate, o.entropy_tau, o.entropy_alpha, o.entropy_width, o.entropy_h_max or math.log(vocabulary)
        )
        return RowPlan(
            self.base(o),
            gate if self.gated else None,
            taid_t if self.interpolated else 1.0,
            o.taid_space,
            o.loss_temperature,
        )

    def __call__(self, x: LossInputs, o: Options) -> Tensor:
        sampled = None
        if self.sampled(o):
            sampled = divergences.sampled_token(x.student_logprob, x.teacher_logprob, x.rollout_logprob)
        if not self.dense:
            return sampled
        plan = self.plan(o, x.taid_t, x.student_logits.shape[-1])
        if o.loss_top_k and self.top_k_form is not None:
            dense = _on_teachers_top_k(x, plan, o.loss_top_k, self.top_k_form)
        else:
            dense = row_losses(x.student_logits, x.teacher_logits, plan).loss
        return dense if sampled is None else sampled + dense


def _on_teachers_top_k(x: LossInputs, plan: RowPlan, k: int, form: str) -> Tensor:
    """The forward KL on the teacher's k best tokens, alone or behind the gate, which reads the whole teacher; or a
    JSD, both sides renormalised there."""
    student, teacher = (z / plan.temperature for z in (x.student_logits, x.teacher_logits.detach()))
    lists = TopK.from_logits(teacher, k)
    if plan.gate is None:
        return topk_losses(student, lists, RowPlan(plan.base), form=form).loss
    forward = topk_losses(student, lists, RowPlan(Divergence("forward_kl")), form=form).loss
    whole = row_losses(student, teacher, RowPlan(plan.base or Divergence("reverse_kl")))
    base = torch.zeros_like(whole.loss) if plan.base is None else whole.loss
    return divergences.entropy_aware(base, forward, plan.gate.weights(whole.teacher_entropy))


def _kl(kind: str) -> Callable[[Options], Divergence]:
    return lambda o: Divergence(kind)


def _jsd(o: Options) -> Divergence:
    """GKD's ends: beta 0 is KL(T || S), beta 1 KL(S || T)."""
    clip = o.jsd_token_clip or math.inf
    if o.jsd_beta in (0, 1):
        return Divergence("reverse_kl" if o.jsd_beta else "forward_kl", clip=clip)
    return Divergence("jsd", o.jsd_beta, clip)


def _skew_forward(o: Options) -> Divergence:
    return Divergence("skew_forward_kl", o.skew_alpha) if o.skew_alpha else Divergence("forward_kl")


def _skew_reverse(o: Options) -> Divergence:
    return Divergence("skew_reverse_kl", 1 - o.skew_alpha) if o.skew_alpha else Divergence("reverse_kl")


def _to_target(o: Options) -> Divergence:
    return _jsd(o) if o.taid_divergence == "jsd" else Divergence(o.taid_divergence)


def _published(o: Options) -> bool:
    """Entropy-aware OPD as published adds to sampled-token OPD; its other gates blend both KLs."""
    return o.entropy_gate == "hard_add"


def _entropy_base(o: Options) -> Divergence | None:
    return None if _published(o) else Divergence("reverse_kl")


LOSSES: dict[str, Loss] = {
    "sampled_token": Loss("policy gradient of log p_T(y) - log p_S(y)", sampled=lambda o: True),
    "forward_kl": Loss("KL(T || S)", _kl("forward_kl"), top_k_form="student_full"),
    "reverse_kl": Loss("KL(S || T)", _kl("reverse_kl")),
    "jsd": Loss("beta KL(T || M) + (1 - beta) KL(S || M)", _jsd, top_k_form="renormalised"),
    "skew_forward_kl": Loss("KL(T || alpha T + (1 - alpha) S)", _skew_forward),
    "skew_reverse_kl": Loss("KL(S || alpha S + (1 - alpha) T)", _skew_reverse),
    "taid": Loss("D(S, Q), Q between S and T", _to_target, interpolated=True),
    "entropy_aware": Loss(
        "base + gate(H_T) KL(T || S)", _entropy_base, _published, gated=True, top_k_form="student_full"
    ),
    "taid_entropy_aware": Loss("D(S, Q) + gate(H_T) KL(Q || S)", _to_target, gated=True, interpolated=True),
}

_TAID = ("taid", "taid_entropy_aware")
_GATED = ("entropy_aware", "taid_entropy_aware")
READ_BY: dict[str, tuple[str, ...]] = {
    "jsd_beta": ("jsd", *_TAID),
    "jsd_token_clip": ("jsd",),
    "skew_alpha": ("skew_forward_kl", "skew_reverse_kl"),
    "loss_temperature": tuple(name for name, loss in LOSSES.items() if loss.dense),
    "loss_top_k": tuple(name for name, loss in LOSSES.items() if loss.top_k_form is not None),
    **dict.fromkeys(("taid_space", "taid_divergence", "taid_t_start", "taid_t_end", "taid_alpha", "taid_beta"), _TAID),
    **dict.fromkeys(("entropy_gate", "entropy_tau", "entropy_alpha", "entropy_width", "entropy_h_max"), _GATED),
}
"""Options that only some losses read: setting one for another loss is refused, since it would do nothing."""
