"""What the full-distribution losses compute at each row of logits, chosen once and read by every implementation.

S is the student, T the teacher, Q the target: T, or TAID's interpolation of S and T, detached.
The loss of a row is w_base(H_T) D(S, Q) + w_forward(H_T) KL(Q || S), H_T the teacher's entropy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .divergences import entropy_gate

DIVERGENCES = ("forward_kl", "reverse_kl", "jsd", "skew_reverse_kl", "skew_forward_kl")
MIXTURES = ("jsd", "skew_reverse_kl", "skew_forward_kl")


@dataclass(frozen=True)
class Divergence:
    """One divergence of S and Q; M = weight Q + (1 - weight) S.

    forward_kl: KL(Q || S). reverse_kl: KL(S || Q). jsd: weight KL(Q || M) + (1 - weight) KL(S || M).
    skew_reverse_kl: KL(S || M). skew_forward_kl: KL(Q || M). clip: cap on each vocabulary entry before the sum; a
    capped entry has no gradient. Raises ValueError on another kind, a weight of a mixture outside 0..1 (ends excluded:
    they are the KLs) or a clip not above 0.
    """

    kind: str
    weight: float = 0.5
    clip: float = math.inf

    def __post_init__(self) -> None:
        if self.kind not in DIVERGENCES:
            raise ValueError(f"divergence {self.kind!r} is not one of {', '.join(DIVERGENCES)}")
        if self.kind in MIXTURES and not 0 < self.weight < 1:
            raise ValueError(f"a mixture's weight {self.weight} is outside 0..1 (ends excluded)")
        if self.kind not in MIXTURES:
            object.__setattr__(self, "weight", 0.5)  # what does not matter must not tell two KLs apart
        if not self.clip > 0:
            raise ValueError(f"--opd-jsd-token-clip {self.clip} must be above 0")

    @property
    def one_read(self) -> bool:
        """Whether one read of the logits is enough: no mixture, and no cap on what only both normalisers give."""
        return self.kind not in MIXTURES and self.clip == math.inf


@dataclass(frozen=True)
class EntropyGate:
    """entropy_gate's settings: teacher entropy to the weights of the base divergence and of the forward KL."""

    gate: str = "hard_add"
    tau: float = 0.8
    alpha: float = 1.0
    width: float = 0.2
    h_max: float | None = None

    def weights(self, teacher_entropy: Tensor) -> tuple[Tensor, Tensor]:
        """(base, forward KL), [N] each."""
        return entropy_gate(
            teacher_entropy, self.gate, tau=self.tau, alpha=self.alpha, width=self.width, h_max=self.h_max
        )


@dataclass(frozen=True)
class RowPlan:
    """base: D, None for no base divergence. gate: None adds no forward KL and weighs the base 1.

    taid_t: Q is T itself at exactly 1. taid_space: logit, softmax((1 - t) z_S + t z_T), or prob, (1 - t) p_S + t p_T.
    temperature: divides both sides' logits in divergences and gate; sampled log-probs and the student's entropy are
    always at temperature 1. Raises ValueError on a t outside 0..1, another space, or a temperature not above 0.
    """

    base: Divergence | None
    gate: EntropyGate | None = None
    taid_t: float = 1.0
    taid_space: str = "logit"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.taid_t <= 1:
            raise ValueError(f"TAID's t {self.taid_t} is outside 0..1")
        if self.taid_space not in ("logit", "prob"):
            raise ValueError(f"--opd-taid-space {self.taid_space!r} is not one of logit, prob")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"--opd-loss-temperature {self.temperature} must be above 0")
        if self.base is None and self.gate is None:
            raise ValueError("a plan needs a base divergence or a gate")

    @property
    def one_read(self) -> bool:
        """Whether the forward reads the logits once; else a second read follows with both normalisers known."""
        interpolates_probs = self.taid_space == "prob" and self.taid_t < 1
        return (self.base is None or self.base.one_read) and not interpolates_probs
