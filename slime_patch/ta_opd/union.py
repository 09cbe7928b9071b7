"""Both models' top-k lists on their union, each number with what is known of it.

Axes: N response tokens of a block; K entries of a top-k list.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import Tensor

from .entries import Entries
from .masks import any_entry, as_float, compare, filled, numbering
from .support import LOG_FLOOR, NO_TOKEN, Supports

_LEAST_LEFTOVER = 1e-7
"""Float32 resolution of a sum of probabilities near one: the least mass assumed to lie outside a top-k list."""


@dataclass(frozen=True)
class Union:
    """Both models on U = S_S ∪ S_T: first the student's K_S entries, then the teacher's that are not among them.

    The support axis comes first, so that sums over it run along contiguous tokens.

    student, teacher: float32 [K_S + K_T, N], nats, never below LOG_FLOOR; imputed where not known.
    student_p, teacher_p: their exponentials, not renormalised.
    present: bool [K_S + K_T, N], the entry belongs to U.
    shared: bool [K_S, N], the student's entry is in the teacher's own list.
    teacher_known: bool [K_S, N], log p_T at the student's entry is known (own list or asked for).
    imputed: bool [N], at least one of the numbers had to be imputed.
    student_list, teacher_list: both lists as they came, [K_S, N] and [K_T, N].
    """

    student: Tensor
    teacher: Tensor
    student_p: Tensor
    teacher_p: Tensor
    present: Tensor
    shared: Tensor
    teacher_known: Tensor
    imputed: Tensor
    student_list: Entries
    teacher_list: Entries

    @property
    def student_k(self) -> int:
        return len(self.student_list.ids)


def align(supports: Supports) -> Union:
    """Put both lists on their union.

    A side's probability of a token that is missing from its list is imputed as
    min(its k-th probability, its leftover mass / number of its missing tokens): the first is what the list
    proves, the second what is left to share out. Memory: K_S * K_T * N * 2 bytes; call it on blocks of rows.
    """
    s, t = Entries.of(supports.student), Entries.of(supports.teacher)
    entry = _matching_entry(s.ids, filled(t.ids, t.held, NO_TOKEN - 1))
    place = entry.amax(1)
    shared, only_teacher = compare(operator.gt, place, 0), t.held & compare(operator.eq, entry.amax(0), 0)

    teacher_on_s = t.logprobs.gather(0, place.clamp_min_(1).sub_(1).long())
    teacher_on_s, missing_t = _completed(teacher_on_s, s.held, shared, supports.teacher_on_student, t)
    student_on_t, missing_s = _completed(t.logprobs, only_teacher, ~only_teacher, supports.student_on_teacher, s)
    return Union(
        student=torch.cat([s.logprobs, student_on_t]),
        teacher=torch.cat([teacher_on_s, t.logprobs]),
        student_p=torch.cat([s.p, student_on_t.exp()]),
        teacher_p=torch.cat([teacher_on_s.exp(), t.p]),
        present=torch.cat([s.held, only_teacher]),
        shared=shared,
        teacher_known=s.held & ~missing_t,
        imputed=any_entry(missing_t) | any_entry(missing_s),
        student_list=s,
        teacher_list=t,
    )


def _matching_entry(ids_s: Tensor, ids_t: Tensor) -> Tensor:
    """[K_S, K_T, N]: 1 + the teacher's entry where the ids are equal, else 0."""
    number = numbering(len(ids_t), ids_t.device)
    same = compare(operator.eq, ids_s[:, None], ids_t[None]).view(torch.uint8)
    return same.to(number.dtype).mul_(number[None, :, None])


def _completed(
    found: Tensor, wanted: Tensor, listed: Tensor, asked: Tensor | None, own: Entries
) -> tuple[Tensor, Tensor]:
    """A side's log-probs [*, N] at the other side's `wanted` entries, and which of them had to be imputed.

    found: its log-probs where `listed`, its own list having the token. asked: [N, *] what it answered beyond that, NaN
    where it did not, or None. own: its list, which bounds what is missing.
    """
    missing, answered_mass = wanted & ~listed, 0
    if asked is not None:
        answered = wanted & ~asked.T.isnan()
        found = torch.where(answered, asked.T, found)
        answered_mass = asked.T.exp().masked_fill_(~answered | listed, 0).sum(0)
        missing = missing & ~answered
    kth = filled(own.logprobs, own.held, 0).amin(0)
    leftover = (1 - own.p.sum(0) - answered_mass).clamp_min(_LEAST_LEFTOVER)
    share = as_float(missing)
    imputed = torch.minimum(kth, (leftover / share.sum(0).clamp_min(1)).log())
    return (found * (1 - share)).add_(share.mul_(imputed)).clamp_min_(LOG_FLOOR), missing
