"""Columns that follow from the two top-k lists of a block of tokens: first choices, masses, entropies, divergences,
compatibility, ranks.

Axes: M tokens of a block. A number that is not known is NaN or masked, never zero.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..entries import Entries
from ..masks import any_entry, compare
from ..scores import TokenScores
from ..support import NO_TOKEN, Provenance, Supports


def list_columns(supports: Supports, token_ids: Tensor, scores: TokenScores) -> dict[str, Any]:
    """Each column [M], in the table's order: numpy arrays (floats: NaN is null) and masked arrays (integers).

    token_ids: integer [M], the sampled tokens. scores: of the same M tokens.
    """
    student, teacher = Entries.of(supports.student), Entries.of(supports.teacher)
    no_student, no_teacher = student.empty, teacher.empty
    (first_s, best_s), (first_t, best_t) = student.first(), teacher.first()
    entropy_s, entropy_t = student.entropy(renormalised=True), teacher.entropy(renormalised=True)
    exact = scores.compatibility_provenance == int(Provenance.EXACT)
    rank_s, rank_t = student.rank(token_ids), teacher.rank(token_ids)
    reached = any_entry(compare(operator.eq, student.ids, first_t[None]))
    return {
        "student_top1_id": _where_known(first_s, first_s == NO_TOKEN),
        "teacher_top1_id": _where_known(first_t, first_t == NO_TOKEN),
        "student_top1_prob": best_s.exp().masked_fill_(no_student, torch.nan).numpy(),
        "teacher_top1_prob": best_t.exp().masked_fill_(no_teacher, torch.nan).numpy(),
        "student_topk_mass": student.mass().masked_fill_(no_student, torch.nan).numpy(),
        "teacher_topk_mass": teacher.mass().masked_fill_(no_teacher, torch.nan).numpy(),
        "Hs": scores.entropy.numpy(),
        "Hs_provenance": scores.entropy_provenance.numpy(),
        "Ht": _optional(supports.teacher_entropy, len(supports)),
        "Hs_topk": entropy_s.numpy(),
        "Ht_topk": entropy_t.numpy(),
        "Hs_topk_norm": (entropy_s / _log_size(student)).numpy(),
        "Ht_topk_norm": (entropy_t / _log_size(teacher)).numpy(),
        "KLf_union": scores.disagreement.numpy(),
        "KLf_provenance": scores.disagreement_provenance.numpy(),
        "KLr_union": scores.reverse_disagreement.numpy(),
        "KLr": _optional(supports.reverse_kl, len(supports)),
        "Cmass": scores.compatibility.numpy(),
        "Cmass_topk": scores.compatibility_bound.numpy(),
        "Cmass_true": torch.where(exact, scores.compatibility, torch.nan).numpy(),
        "Cmass_exact": exact.to(torch.int8).numpy(),
        "Cmass_provenance": scores.compatibility_provenance.numpy(),
        "Coverlap": scores.overlap.numpy(),
        "Cjaccard": scores.jaccard.numpy(),
        "CBC": scores.bhattacharyya.numpy(),
        "reach_t1": _where_known(reached.to(torch.int8), no_student | no_teacher),
        "target_in_student_topk": _where_known((rank_s > 0).to(torch.int8), no_student),
        "target_in_teacher_topk": _where_known((rank_t > 0).to(torch.int8), no_teacher),
        "target_student_rank": _where_known(rank_s, rank_s == 0),
        "target_teacher_rank": _where_known(rank_t, rank_t == 0),
    }


def _log_size(entries: Entries) -> Tensor:
    return entries.size.clamp_min(2).log()


def _where_known(values: Tensor, unknown: Tensor) -> np.ma.MaskedArray:
    return np.ma.masked_array(values.numpy(), mask=unknown.numpy())


def _optional(values: Tensor | None, n: int) -> np.ndarray:
    return np.full(n, np.nan, np.float32) if values is None else values.numpy()
