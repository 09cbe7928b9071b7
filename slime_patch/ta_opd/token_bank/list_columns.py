"""Columns that follow from the two top-k lists of a block of tokens: first choices, masses, entropies, divergences,
compatibility, ranks.

Axes: M tokens of a block. A number that is not known is NaN or masked, never zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..scores import TokenScores
from ..support import NO_TOKEN, Provenance


def list_columns(scores: TokenScores, teacher_entropy: Tensor, reverse_kl: Tensor) -> dict[str, Any]:
    """Each column [M], in the table's order: numpy arrays (floats: NaN is null) and masked arrays (integers).

    scores: of the M tokens, with their facts (an invariant). teacher_entropy, reverse_kl: [M], nats, over the full
    vocabulary, NaN where not known.
    """
    facts = scores.facts
    assert facts is not None, "the token bank needs token_scores(..., token_ids=...)"
    no_student, no_teacher = facts.student_first == NO_TOKEN, facts.teacher_first == NO_TOKEN
    exact = scores.compatibility_provenance == int(Provenance.EXACT)
    return {
        "student_top1_id": _where_known(facts.student_first, no_student),
        "teacher_top1_id": _where_known(facts.teacher_first, no_teacher),
        "student_top1_prob": facts.student_first_p.numpy(),
        "teacher_top1_prob": facts.teacher_first_p.numpy(),
        "student_topk_mass": facts.student_mass.numpy(),
        "teacher_topk_mass": facts.teacher_mass.numpy(),
        "Hs": scores.entropy.numpy(),
        "Hs_provenance": scores.entropy_provenance.numpy(),
        "Ht": teacher_entropy.numpy(),
        "Hs_topk": facts.student_entropy.numpy(),
        "Ht_topk": facts.teacher_entropy.numpy(),
        "Hs_topk_norm": facts.student_entropy_norm.numpy(),
        "Ht_topk_norm": facts.teacher_entropy_norm.numpy(),
        "KLf_union": scores.disagreement.numpy(),
        "KLf_provenance": scores.disagreement_provenance.numpy(),
        "KLr_union": scores.reverse_disagreement.numpy(),
        "KLr": reverse_kl.numpy(),
        "Cmass": scores.compatibility.numpy(),
        "Cmass_topk": scores.compatibility_bound.numpy(),
        "Cmass_true": torch.where(exact, scores.compatibility, torch.nan).numpy(),
        "Cmass_exact": exact.to(torch.int8).numpy(),
        "Cmass_provenance": scores.compatibility_provenance.numpy(),
        "Coverlap": scores.overlap.numpy(),
        "Cjaccard": scores.jaccard.numpy(),
        "CBC": scores.bhattacharyya.numpy(),
        "reach_t1": _where_known(facts.reached.to(torch.int8), no_student | no_teacher),
        "target_in_student_topk": _where_known((facts.student_rank > 0).to(torch.int8), no_student),
        "target_in_teacher_topk": _where_known((facts.teacher_rank > 0).to(torch.int8), no_teacher),
        "target_student_rank": _where_known(facts.student_rank.long(), facts.student_rank == 0),
        "target_teacher_rank": _where_known(facts.teacher_rank.long(), facts.teacher_rank == 0),
    }


def _where_known(values: Tensor, unknown: Tensor) -> np.ma.MaskedArray:
    return np.ma.masked_array(values.numpy(), mask=unknown.numpy())
