"""What is known about two distributions at each response token: top-k lists, answers beyond them, entropies.

Axes: N response tokens of a whole rollout batch, samples one after another; K entries of a top-k list; V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum

import torch
from torch import Tensor

NO_TOKEN = -1
LOG_FLOOR = -87.0
"""exp(LOG_FLOOR) is the smallest normal float32: a smaller log-prob is read as this one when scoring."""


class Provenance(IntEnum):
    """Where a number comes from."""

    MISSING = 0
    LOWER_BOUND = 1
    EXACT = 2
    IMPUTED = 3


@dataclass(frozen=True)
class TopK:
    """The K most probable tokens of one model at N positions.

    ids: integer [N, K]; NO_TOKEN (-1) marks an empty entry (short list, tool token, failed request).
    logprobs: float32 [N, K], nats, natural log of full-vocabulary probabilities; read only where ids >= 0.
    """

    ids: Tensor
    logprobs: Tensor

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.shape != self.logprobs.shape:
            raise ValueError(
                f"a top-k list needs ids and logprobs of one shape [N, K]; got {tuple(self.ids.shape)} "
                f"and {tuple(self.logprobs.shape)}"
            )

    def __len__(self) -> int:
        return self.ids.shape[0]

    @property
    def k(self) -> int:
        return self.ids.shape[1]

    def rows(self, index: slice | Tensor) -> TopK:
        return TopK(self.ids[index], self.logprobs[index])

    @staticmethod
    def from_logits(logits: Tensor, k: int) -> TopK:
        """The k best tokens of logits [N, V]; log-probs over the full vocabulary. Ties go to the smaller id.

        Raises ValueError unless 1 <= k <= V.
        """
        return TopK.from_logprobs(torch.log_softmax(logits.float(), dim=-1), k)

    @staticmethod
    def from_logprobs(logprobs: Tensor, k: int) -> TopK:
        """As from_logits, from full-vocabulary log-probs [N, V] in nats."""
        vocabulary = logprobs.shape[-1]
        if not 1 <= k <= vocabulary:
            raise ValueError(f"--opd-topk-metrics-k {k} is outside 1..{vocabulary}, the size of the vocabulary")
        values, ids = torch.topk(logprobs, min(k + 1, vocabulary), dim=-1)
        if k < vocabulary:
            tied = (values[:, k - 1] == values[:, k]).nonzero()[:, 0]
            if len(tied):
                ordered = torch.sort(logprobs[tied], dim=-1, descending=True, stable=True)
                values[tied, :k], ids[tied, :k] = ordered.values[:, :k], ordered.indices[:, :k]
        ids, order = ids[:, :k].sort(dim=-1)
        values, by_value = values[:, :k].gather(1, order).sort(dim=-1, descending=True, stable=True)
        return TopK(ids.gather(1, by_value).to(torch.int32), values.float())

    @staticmethod
    def missing(n: int, k: int) -> TopK:
        """n positions of which nothing is known."""
        return TopK(torch.full((n, k), NO_TOKEN, dtype=torch.int32), torch.full((n, k), -torch.inf))

    def check(self, vocabulary: int | None = None, tolerance: float = 0.02) -> None:
        """Raises ValueError for what no distribution gives: ids outside the vocabulary, repeated ids in a row,
        log-probs above 0 or NaN, or a row whose probabilities sum to more than 1 + tolerance (bf16 rounding)."""
        held = self.ids >= 0
        if vocabulary is not None and bool((self.ids >= vocabulary).any()):
            raise ValueError(f"token id {int(self.ids.max())} is outside the vocabulary 0..{vocabulary - 1}")
        ordered = self.ids.sort(dim=1).values
        if bool(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any()):
            raise ValueError("a top-k list names the same token id twice at one position")
        logprobs = torch.where(held, self.logprobs, -torch.inf)
        if bool(logprobs.isnan().any()) or bool((logprobs > tolerance).any()):
            raise ValueError("a top-k list holds a log-prob that is NaN or above 0")
        if len(self) and float(logprobs.exp().sum(1).max()) > 1 + tolerance:
            raise ValueError(f"a top-k list sums to {float(logprobs.exp().sum(1).max()):.4f}, above 1")


@dataclass(frozen=True)
class Supports:
    """Everything known about student and teacher at N response tokens; what is not known stays None or NaN.

    student, teacher: TopK of N rows each (K may differ).
    teacher_on_student: float32 [N, K_S] or None, log p_T at the student's ids where asked for exactly (NaN: not known).
    student_on_teacher: float32 [N, K_T] or None, log p_S at the teacher's ids (NaN: not known).
    student_entropy, teacher_entropy: float32 [N] or None, full-vocabulary entropy, nats.
    reverse_kl: float32 [N] or None, full-vocabulary KL(p_S || p_T), nats.
    """

    student: TopK
    teacher: TopK
    teacher_on_student: Tensor | None = None
    student_on_teacher: Tensor | None = None
    student_entropy: Tensor | None = None
    teacher_entropy: Tensor | None = None
    reverse_kl: Tensor | None = None

    def __post_init__(self) -> None:
        for name, shape in {
            "teacher": (len(self.student), self.teacher.k),
            "teacher_on_student": self.student.ids.shape,
            "student_on_teacher": self.teacher.ids.shape,
            "student_entropy": (len(self.student),),
            "teacher_entropy": (len(self.student),),
            "reverse_kl": (len(self.student),),
        }.items():
            value = getattr(self, name)
            got = value.ids.shape if isinstance(value, TopK) else None if value is None else value.shape
            if got is not None and tuple(got) != tuple(shape):
                raise ValueError(f"{name} has shape {tuple(got)}; {tuple(shape)} goes with the student's list")

    def __len__(self) -> int:
        return len(self.student)

    @property
    def known_fields(self) -> tuple[str, ...]:
        """Names of the fields that are there."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is not None)

    def rows(self, index: slice | Tensor) -> Supports:
        def take(value):
            if value is None:
                return None
            return value.rows(index) if isinstance(value, TopK) else value[index]

        return Supports(**{f.name: take(getattr(self, f.name)) for f in fields(self)})

    @staticmethod
    def concat(parts: Sequence[Supports]) -> Supports:
        """Samples one after another; a field must be there in all parts or in none."""

        def join(name: str):
            values = [getattr(part, name) for part in parts]
            if all(value is None for value in values):
                return None
            if any(value is None for value in values):
                raise ValueError(f"{name} is known for some samples only; give NaN rows for the others")
            if isinstance(values[0], TopK):
                return TopK(
                    torch.cat([value.ids for value in values]),
                    torch.cat([value.logprobs for value in values]),
                )
            return torch.cat(values)

        return Supports(**{f.name: join(f.name) for f in fields(Supports)})

    @staticmethod
    def from_logits(student_logits: Tensor, teacher_logits: Tensor, k: int) -> Supports:
        """Exact two-sided knowledge from both models' full logits [N, V]: nothing is bounded or missing."""
        log_s = torch.log_softmax(student_logits.detach().float(), dim=-1)
        log_t = torch.log_softmax(teacher_logits.detach().float(), dim=-1)
        student, teacher = TopK.from_logprobs(log_s, k), TopK.from_logprobs(log_t, k)
        p_s, p_t = log_s.exp(), log_t.exp()
        finite_s, finite_t = log_s.clamp_min(LOG_FLOOR), log_t.clamp_min(LOG_FLOOR)
        return Supports(
            student,
            teacher,
            teacher_on_student=log_t.gather(1, student.ids.long()),
            student_on_teacher=log_s.gather(1, teacher.ids.long()),
            student_entropy=-(p_s * finite_s).sum(-1),
            teacher_entropy=-(p_t * finite_t).sum(-1),
            reverse_kl=(p_s * (finite_s - finite_t)).sum(-1).clamp_min_(0),
        )
