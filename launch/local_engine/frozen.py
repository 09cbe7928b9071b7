"""Frozen student contexts: responses of the untrained student, re-scored by every trained one.

The gain of a token is KL(p_T || p_theta0) - KL(p_T || p_theta), full vocabulary, nats: above 0, the student has moved
towards the teacher there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ta_opd import divergences
from torch import Tensor
from transformers import PreTrainedModel

from .rollout import Responses, Scored, score


class Distances(NamedTuple):
    """Full-vocabulary distances of a student to the teacher at N tokens, float32 [N] each, nats, on the CPU.

    forward: KL(p_T || p_theta), the gain's. reverse: KL(p_theta || p_T), the one OPD descends.
    """

    forward: Tensor
    reverse: Tensor


@dataclass(frozen=True)
class FrozenContexts:
    """B responses of the student before training and the teacher's logits on them.

    clusters: B numbers, equal for equal prompts. teacher_logits: float32 [N, V]. before: the untrained student's
    distances. scored: both models' view of the tokens.
    """

    responses: Responses
    teacher_logits: Tensor
    before: Distances
    scored: Scored
    micro_batch: int
    clusters: list[int]

    @staticmethod
    def build(
        responses: Responses,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        k: int,
        variant: str,
        micro_batch: int,
        clusters: list[int],
    ) -> FrozenContexts:
        student_logits, teacher_logits = (responses.fixed_logits(model, micro_batch) for model in (student, teacher))
        return FrozenContexts(
            responses,
            teacher_logits,
            _distances(student_logits, teacher_logits),
            score(student_logits, teacher_logits, responses.token_ids, k, variant),
            micro_batch,
            clusters,
        )

    def distances(self, student: PreTrainedModel) -> Distances:
        return _distances(self.responses.fixed_logits(student, self.micro_batch), self.teacher_logits)

    @property
    def prompt(self) -> np.ndarray:
        """integer [N]: the prompt each token's response answers, the cluster of the bootstrap."""
        return np.repeat(np.array(self.clusters), self.responses.lengths.numpy())


def _distances(student_logits: Tensor, teacher_logits: Tensor) -> Distances:
    return Distances(
        divergences.forward_kl(student_logits, teacher_logits).cpu(),
        divergences.reverse_kl(student_logits, teacher_logits).cpu(),
    )
