"""Responses of the student, scored by student and teacher.

Axes: B responses, N response tokens of all of them one after another, V vocabulary, K support entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ta_opd import Supports, TokenScores, token_scores
from torch import Tensor
from transformers import PreTrainedModel

from .sampling import response_logits, sample_responses


@dataclass(frozen=True)
class Responses:
    """B sampled responses: which problem each answers, and the ids of prompt and response."""

    problem: list[int]
    prompt_ids: list[list[int]]
    response_ids: list[list[int]]

    @property
    def lengths(self) -> Tensor:
        """int64 [B], response tokens."""
        return torch.tensor([len(ids) for ids in self.response_ids])

    @property
    def prompt_lengths(self) -> Tensor:
        """int64 [B], prompt tokens."""
        return torch.tensor([len(ids) for ids in self.prompt_ids])

    @property
    def token_ids(self) -> Tensor:
        """int64 [N], the sampled tokens."""
        return torch.tensor([token for ids in self.response_ids for token in ids])

    def micro_batches(self, size: int) -> list[Responses]:
        """Parts of at most `size` responses, in order."""
        return [
            Responses(*(values[start : start + size] for values in (self.problem, self.prompt_ids, self.response_ids)))
            for start in range(0, len(self.problem), size)
        ]

    @torch.no_grad()
    def fixed_logits(self, model: PreTrainedModel, micro_batch: int) -> Tensor:
        """logits without gradient, computed a micro-batch at a time, so that memory does not grow with B."""
        return torch.cat([part.logits(model) for part in self.micro_batches(micro_batch)])

    def logits(self, model: PreTrainedModel) -> Tensor:
        """float32 [N, V]: row n is the distribution that token n was, or would be, drawn from; differentiable."""
        sequences = [[*p, *r] for p, r in zip(self.prompt_ids, self.response_ids, strict=True)]
        return response_logits(model, sequences, [len(ids) for ids in self.prompt_ids])


@dataclass(frozen=True)
class Scored:
    """Both models' view of N response tokens; log-probs of the sampled tokens [N], nats, without gradient."""

    supports: Supports
    scores: TokenScores
    student_logprob: Tensor
    teacher_logprob: Tensor


def sample(
    model: PreTrainedModel,
    problem: Sequence[int],
    prompt_ids: Sequence[list[int]],
    max_new_tokens: int,
    seed: int,
    eos_id: int,
    pad_id: int,
) -> Responses:
    """One response to each of the named problems at temperature 1, drawn from `seed` alone."""
    chosen = [prompt_ids[index] for index in problem]
    generator = torch.Generator(device=model.device).manual_seed(seed)
    drawn = sample_responses(model, chosen, max_new_tokens, generator=generator, eos_id=eos_id, pad_id=pad_id)
    return Responses(list(problem), chosen, drawn)


def score(student_logits: Tensor, teacher_logits: Tensor, token_ids: Tensor, k: int, variant: str) -> Scored:
    """Exact supports, scores and sampled log-probs from full logits [N, V]; results are on the CPU."""
    student_logits, teacher_logits = student_logits.detach().cpu(), teacher_logits.detach().cpu()
    supports = Supports.from_logits(student_logits, teacher_logits, k)
    return Scored(
        supports,
        token_scores(supports, variant, token_ids.cpu()),
        sampled_logprob(student_logits, token_ids),
        sampled_logprob(teacher_logits, token_ids),
    )


def sampled_logprob(logits: Tensor, token_ids: Tensor) -> Tensor:
    """log p of each sampled token [N] under logits [N, V], nats; differentiable."""
    return torch.log_softmax(logits, dim=-1).gather(1, token_ids.to(logits.device)[:, None])[:, 0]
