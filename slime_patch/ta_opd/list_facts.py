"""What the token bank tells of both top-k lists beside the scores; found while the scores are, from the same entries.

Axes: N response tokens.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .entries import Entries
from .masks import any_entry, compare


@dataclass(frozen=True)
class ListFacts:
    """[N] each, of the student's and the teacher's own list; NaN and NO_TOKEN where it is empty.

    first, first_p: int32 and float32, the most probable token and its probability. mass: float32, what the list covers.
    entropy, entropy_norm: float32, nats, of the list renormalised to sum to 1; and over log(entries, at least 2).
    rank: int16, 1-based rank of the sampled token in the list, 0 where it is not in it. reached: bool, the teacher's
    first choice is in the student's list.
    """

    student_first: Tensor
    teacher_first: Tensor
    student_first_p: Tensor
    teacher_first_p: Tensor
    student_mass: Tensor
    teacher_mass: Tensor
    student_entropy: Tensor
    teacher_entropy: Tensor
    student_entropy_norm: Tensor
    teacher_entropy_norm: Tensor
    student_rank: Tensor
    teacher_rank: Tensor
    reached: Tensor

    def rows(self, rows: slice) -> ListFacts:
        return ListFacts(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


_DTYPES = {"first": torch.int32, "rank": torch.int16, "reached": torch.bool}


def empty_facts(n: int, device: torch.device) -> dict[str, Tensor]:
    """Unset memory for the facts of n tokens, by name."""
    return {
        f.name: torch.empty(n, dtype=_DTYPES.get(f.name.split("_", 1)[-1], torch.float32), device=device)
        for f in fields(ListFacts)
    }


def list_facts(student: Entries, teacher: Entries, token_ids: Tensor) -> dict[str, Tensor]:
    """ListFacts of a block by name. token_ids: integer [N], the sampled tokens."""
    facts = {}
    for name, entries in (("student", student), ("teacher", teacher)):
        empty, (first, best) = entries.empty, entries.first()
        entropy = entries.entropy(renormalised=True)
        facts |= {
            f"{name}_first": first,
            f"{name}_first_p": best.exp().masked_fill_(empty, torch.nan),
            f"{name}_mass": entries.mass().masked_fill_(empty, torch.nan),
            f"{name}_entropy": entropy.masked_fill_(empty, torch.nan),
            f"{name}_entropy_norm": entropy / entries.size.clamp_min(2).log(),
            f"{name}_rank": entries.rank(token_ids),
        }
    return facts | {"reached": any_entry(compare(operator.eq, student.ids, facts["teacher_first"][None]))}
