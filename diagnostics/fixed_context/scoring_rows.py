"""Rows of both models' logits to the columns of a metrics file.

Axes: n rows (response tokens), V vocabulary, K entries of a top-k list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ta_opd import Supports, TopK, token_scores
from ta_opd.support import LOG_FLOOR
from torch import Tensor

_LEAST = math.exp(LOG_FLOOR)
_SMALL_VOCABULARY = 8192
Columns = dict[str, Tensor]


@dataclass(frozen=True)
class Distribution:
    """lse: [n, 1], log-sum-exp of the logits. logprob, p: [n, V], log-probs not below LOG_FLOOR; float32."""

    lse: Tensor
    logprob: Tensor
    p: Tensor

    @staticmethod
    def of(logits: Tensor) -> Distribution:
        """One exponential an entry; its sum by torch.sum, which is exact over a long row where torch.softmax is not."""
        highest = logits.amax(-1, keepdim=True)
        p = (logits - highest).exp_()
        total = p.sum(-1, keepdim=True)
        lse = total.log() + highest
        return Distribution(lse, (logits - lse).clamp_(min=LOG_FLOOR), p.div_(total))

    def entropy(self) -> Tensor:
        """[n], nats."""
        return -torch.linalg.vecdot(self.p, self.logprob)


def entropies_and_divergences(student: Distribution, teacher: Distribution) -> Columns:
    """Both entropies, KL(T || S), KL(S || T) and JSD = H((p + q) / 2) - (H(p) + H(q)) / 2 over the whole vocabulary,
    [n] each, nats; rounding may not push a divergence below 0."""
    gap = teacher.logprob - student.logprob
    forward, reverse = torch.linalg.vecdot(teacher.p, gap), -torch.linalg.vecdot(student.p, gap)
    own, other = student.entropy(), teacher.entropy()
    middle = (student.p + teacher.p).mul_(0.5)
    jsd = -torch.linalg.vecdot(middle, middle.clamp(min=_LEAST).log_()) - (own + other) / 2
    least_zero = {"KLf": forward, "KLr": reverse, "JSD": jsd}
    return {"Hs": own, "Ht": other} | {name: values.clamp(min=0) for name, values in least_zero.items()}


def dense_rows(student: Tensor, teacher: Tensor, token_ids: Tensor, k: int) -> tuple[Columns, Supports]:
    """What whole logits tell: the columns of schema.DENSE, and both lists of k tokens with each model's log-probs at
    the other's; on the CPU. student, teacher: float32 [n, V]; token_ids: int64 [n]. A NaN is of a logit that is NaN."""
    own, other = Distribution.of(student), Distribution.of(teacher)
    student_top, teacher_top = (top(logits, side.lse, k) for logits, side in ((student, own), (teacher, other)))
    supports = Supports(
        student_top,
        teacher_top,
        teacher_on_student=other.logprob.gather(1, student_top.ids.long()),
        student_on_teacher=own.logprob.gather(1, teacher_top.ids.long()),
    )
    columns = {
        **entropies_and_divergences(own, other),
        "student_logp_sampled": own.logprob.gather(1, token_ids[:, None])[:, 0],
        "teacher_logp_sampled": other.logprob.gather(1, token_ids[:, None])[:, 0],
        "target_student_rank": rank(student, token_ids),
        "target_teacher_rank": rank(teacher, token_ids),
    }
    return {name: values.cpu() for name, values in columns.items()}, _to_cpu(supports)


def student_rows(
    student: Tensor, token_ids: Tensor, teacher: TopK, teacher_on_student: Tensor | None, k: int
) -> tuple[Columns, Supports]:
    """As dense_rows, of whole logits of the student and the list of a teacher, which is on the CPU."""
    side = Distribution.of(student)
    ids = teacher.ids.long().to(student.device)
    on_teacher = torch.where(ids >= 0, side.logprob.gather(1, ids.clamp(min=0)), torch.nan)
    best = top(student, side.lse, k)
    columns = {
        "Hs": side.entropy(),
        "student_logp_sampled": side.logprob.gather(1, token_ids[:, None])[:, 0],
        "target_student_rank": rank(student, token_ids),
    }
    supports = Supports(TopK(best.ids.cpu(), best.logprobs.cpu()), teacher, teacher_on_student, on_teacher.cpu())
    return {name: values.cpu() for name, values in columns.items()}, supports


def listed_rank(listed: TopK, tokens: Tensor) -> Tensor:
    """float32 [n]: how many of the list are likelier than this token, NaN where it is not in it."""
    same = listed.ids == tokens[:, None]
    own = listed.logprobs.masked_fill(~same, -torch.inf).amax(1, keepdim=True)
    likelier = ((listed.logprobs > own) & (listed.ids >= 0)).sum(1).float()
    return likelier.masked_fill(~same.any(1), torch.nan)


def list_rows(supports: Supports, token_ids: Tensor, ks: Sequence[int]) -> Columns:
    """The columns that depend on K, for each of them, and both lists at ks[0]. supports: lists of max(ks) or more
    entries (a server's teacher may have fewer), on the CPU."""
    columns: Columns = {}
    for place, k in enumerate(ks):
        cut = first_entries(supports, k)
        suffix = f"_k{k}" if place else ""
        columns |= {f"{name}{suffix}": values for name, values in _by_k(cut, token_ids).items()}
        if not place:
            columns |= {
                "student_top_ids": cut.student.ids,
                "student_top_logps": cut.student.logprobs,
                "teacher_top_ids": cut.teacher.ids,
                "teacher_top_logps": cut.teacher.logprobs,
            }
    return columns


def first_entries(supports: Supports, k: int) -> Supports:
    """The same of both lists' k best tokens; the lists are sorted."""

    def cut(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[:, :k]

    return Supports(
        TopK(supports.student.ids[:, :k], supports.student.logprobs[:, :k]),
        TopK(supports.teacher.ids[:, :k], supports.teacher.logprobs[:, :k]),
        cut(supports.teacher_on_student),
        cut(supports.student_on_teacher),
    )


def rank(logits: Tensor, token_ids: Tensor) -> Tensor:
    """int32 [n]: how many tokens are likelier than this one; equally likely ones share a rank."""
    own = logits.gather(1, token_ids[:, None])
    likelier = torch.gt(logits, own, out=torch.empty_like(logits))  # ones are added up faster as floats than as bools
    return likelier.sum(-1).to(torch.int32)


def _by_k(supports: Supports, token_ids: Tensor) -> Columns:
    scores = token_scores(supports, token_ids=token_ids)
    facts = scores.facts
    exact = (supports.student.ids < 0) | _known(supports)
    mass, advantage = overlap(supports)
    no_list = (supports.teacher.ids < 0).all(1)
    return {
        "student_topk_mass": facts.student_mass,
        "teacher_topk_mass": facts.teacher_mass,
        "KLf_union": scores.disagreement,
        "KLr_union": scores.reverse_disagreement,
        "Cmass_exact": scores.compatibility.masked_fill(~exact.all(1), torch.nan),
        "Cmass_topk": scores.compatibility_bound,
        "Coverlap": scores.overlap,
        "Cjaccard": scores.jaccard,
        "CBC": scores.bhattacharyya,
        "reach_t1": facts.reached.float().masked_fill(no_list, torch.nan),
        "overlap_mass": mass.masked_fill(no_list, torch.nan),
        "overlap_advantage": advantage,
    }


def _known(supports: Supports) -> Tensor:
    """bool [n, K]: p_T of the student's token was asked for."""
    asked = supports.teacher_on_student
    return torch.zeros_like(supports.student.ids, dtype=torch.bool) if asked is None else ~asked.isnan()


def overlap(supports: Supports) -> tuple[Tensor, Tensor]:
    """(student mass on the tokens of both lists, overlap-token advantage), float32 [n]; arXiv 2604.13016.

    The advantage is the mean over the shared tokens of p_S (log p_T - log p_S), both renormalised on them: 0 where the
    models agree there, below 0 elsewhere; NaN where no token is shared.
    """
    student, teacher = supports.student, supports.teacher
    same = (student.ids[:, :, None] == teacher.ids[:, None, :]) & (student.ids >= 0)[:, :, None]
    shared, place = same.any(2), same.int().argmax(2)
    log_s = student.logprobs.masked_fill(~shared, -torch.inf)
    log_t = teacher.logprobs.gather(1, place).masked_fill(~shared, -torch.inf)
    mass = log_s.exp().sum(1)
    log_s = log_s - log_s.logsumexp(1, keepdim=True)
    log_t = log_t - log_t.logsumexp(1, keepdim=True)
    terms = torch.where(shared, log_s.exp() * (log_t - log_s), 0)
    return mass, terms.sum(1) / shared.sum(1)


def top(logits: Tensor, lse: Tensor, k: int) -> TopK:
    """The k best tokens of logits [n, V], best first, ties by the smaller id. lse: [n, 1]."""
    few = logits.device.type == "cpu" and k < logits.shape[1] <= _SMALL_VOCABULARY
    best = (_by_threshold(logits, k) if few else None) or TopK.from_logprobs(logits, k)
    return TopK(best.ids, best.logprobs - lse)


def _by_threshold(logits: Tensor, k: int) -> TopK | None:
    """What TopK.from_logprobs gives, in a third of the time where the vocabulary is small; None where a k-th token is
    tied with the next or a logit is NaN."""
    values = logits.contiguous().numpy()
    threshold = np.partition(values, -k, axis=1)[:, -k, None]
    places = np.flatnonzero(values >= threshold)
    if len(places) != k * len(values):
        return None
    ids = torch.from_numpy(places.reshape(-1, k) % values.shape[1])
    best, order = logits.gather(1, ids).sort(dim=1, descending=True, stable=True)
    return TopK(ids.gather(1, order).to(torch.int32), best)


def _to_cpu(supports: Supports) -> Supports:
    return Supports(
        TopK(supports.student.ids.cpu(), supports.student.logprobs.cpu()),
        TopK(supports.teacher.ids.cpu(), supports.teacher.logprobs.cpu()),
        supports.teacher_on_student.cpu(),
        supports.student_on_teacher.cpu(),
    )
