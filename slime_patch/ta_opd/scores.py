"""Per-token scores from two aligned top-k lists: entropy H, disagreement D, compatibility C and its proxies.

Every function is pointwise over tokens; nothing here looks at masks or at a batch. Formulas: TA-OPD, arXiv 2605.26844
(the equation numbers below), unless said otherwise. p̄ is p renormalised on the union U = S_S ∪ S_T.
Axes: N response tokens, K support entries, U = K_S + K_T entries of a union.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from .list_facts import ListFacts, empty_facts, list_facts
from .masks import any_entry, as_float, count
from .support import Provenance, Supports
from .support_parts import Parts, as_parts, count_rows, row_blocks
from .union import Union, align

VARIANTS = ("paper", "released")
BLOCK = 4096
_RELEASED_FLOOR = 1e-12


@dataclass(frozen=True)
class TokenScores:
    """Raw scores of N response tokens, float32 [N]; NaN where a side is missing.

    entropy: H(p_S), nats. disagreement: D, nats. reverse_disagreement: KL(p̄_S || p̄_T) on U, nats. reverse_kl:
    KL(p_S || p_T) on the full vocabulary where that is known, else on U, nats. compatibility: C in [0, 1], the best
    known. compatibility_bound: C from the intersection alone. overlap, jaccard, bhattacharyya: in [0, 1].
    entropy_provenance, disagreement_provenance, compatibility_provenance: uint8 [N], values of Provenance; D is exact
    or imputed (see align), under "released" imputed wherever a list had to stand for the other's token. facts: what the
    token bank tells beside the scores, None unless it was asked for.
    """

    entropy: Tensor
    disagreement: Tensor
    reverse_disagreement: Tensor
    reverse_kl: Tensor
    compatibility: Tensor
    compatibility_bound: Tensor
    overlap: Tensor
    jaccard: Tensor
    bhattacharyya: Tensor
    entropy_provenance: Tensor
    disagreement_provenance: Tensor
    compatibility_provenance: Tensor
    facts: ListFacts | None = None

    def __len__(self) -> int:
        return len(self.entropy)

    def rows(self, rows: slice) -> TokenScores:
        facts = None if self.facts is None else self.facts.rows(rows)
        return TokenScores(**{name: getattr(self, name)[rows] for name in SCORES}, facts=facts)


SCORES = tuple(f.name for f in fields(TokenScores) if f.name != "facts")


def token_scores(supports: Parts, variant: str = "paper", token_ids: Tensor | None = None) -> TokenScores:
    """All raw scores of N tokens, block by block: a block's [K, K] comparisons stay in the processor's cache.

    supports: of the batch, or a sequence of its samples' supports, which are not joined. variant "released" computes
    D and H as the released code does (see disagreement_released and student_entropy). token_ids: integer [N], the
    sampled tokens; with them the scores carry the facts that the token bank needs. Raises ValueError for another
    variant, or where samples differ in K or in the fields that they have.
    """
    if variant not in VARIANTS:
        raise ValueError(f"--opd-score-variant {variant!r} is not one of {', '.join(VARIANTS)}")
    parts = as_parts(supports)
    n, device = count_rows(parts), parts[0].student.logprobs.device if parts else torch.device("cpu")
    out = {
        name: torch.empty(n, dtype=torch.uint8 if name.endswith("provenance") else torch.float32, device=device)
        for name in SCORES
    }
    facts = {} if token_ids is None else empty_facts(n, device)
    _keep_freed_memory()
    for rows, block in row_blocks(parts, BLOCK):
        union = align(block)
        for name, values in _block_scores(block, union, variant).items():
            out[name][rows] = values
        if token_ids is not None:
            for name, values in list_facts(union.student_list, union.teacher_list, token_ids[rows]).items():
                facts[name][rows] = values
    return TokenScores(**out, facts=ListFacts(**facts) if facts else None)


def _keep_freed_memory() -> None:
    """Free 16 MiB that were never touched: glibc then keeps as much of what a block frees for the next one. Otherwise
    it returns the pages and has them faulted in again, a fifth of the time."""
    torch.empty(2**22)


def _block_scores(supports: Supports, union: Union, variant: str) -> dict[str, Tensor]:
    entropy, entropy_provenance = student_entropy(supports, union, variant)
    coverage, provenance = student_support_coverage(union)
    present = as_float(union.present)
    teacher = _renormalise(union.teacher_p, union.teacher, present)
    student = _renormalise(union.student_p, union.student, present)
    reverse = _kl(student, teacher)
    full_reverse = reverse.clone() if supports.reverse_kl is None else supports.reverse_kl
    full_reverse = torch.where(full_reverse.isnan(), reverse, full_reverse)
    held, shared = count(union.student_list.held), count(union.shared)
    raw = {
        "disagreement": disagreement_released(union) if variant == "released" else _kl(teacher, student),
        "reverse_disagreement": reverse,
        "reverse_kl": full_reverse,
        "compatibility": coverage,
        "compatibility_bound": _mass(union.teacher_p, union.shared),
        "overlap": shared / held,
        "jaccard": shared / count(union.present),
        "bhattacharyya": _bhattacharyya(teacher.p, student.p, present),
    }
    teacher_there = any_entry(union.shared) | any_entry(union.present[union.student_k :])
    one_sided = (held == 0) | ~teacher_there
    if bool(one_sided.any()):
        for values in raw.values():
            values.masked_fill_(one_sided, torch.nan)
    provenance = torch.where(coverage.isnan(), int(Provenance.MISSING), provenance)
    return raw | {
        "entropy": entropy,
        "entropy_provenance": entropy_provenance,
        "disagreement_provenance": _disagreement_provenance(union, raw["disagreement"], variant),
        "compatibility_provenance": provenance,
    }


def _disagreement_provenance(union: Union, values: Tensor, variant: str) -> Tensor:
    imputed = union.imputed
    if variant == "released":
        k = union.student_k
        imputed = any_entry(union.present[:k] & ~union.shared) | any_entry(union.present[k:])
    provenance = torch.where(imputed, int(Provenance.IMPUTED), int(Provenance.EXACT))
    return provenance.masked_fill(values.isnan(), int(Provenance.MISSING))


class _Renormalised(NamedTuple):
    """p̄ = p / Z over the present entries, [U, N] (0 elsewhere); log p as given; log Z [N]."""

    p: Tensor
    logprobs: Tensor
    log_z: Tensor


def _renormalise(p: Tensor, logprobs: Tensor, present: Tensor) -> _Renormalised:
    """p: exp(logprobs), [U, N]. present: float [U, N], 1 at the entries that count."""
    p = p * present
    z = p.sum(0)
    return _Renormalised(p.div_(z), logprobs, z.log())


def _kl(a: _Renormalised, b: _Renormalised) -> Tensor:
    """KL(a || b) [N], nats, of the teacher and the student D (eq 9); rounding may not push it below 0."""
    return ((a.logprobs - b.logprobs).mul_(a.p).sum(0) - a.log_z + b.log_z).clamp_min_(0)


def _bhattacharyya(p_t: Tensor, p_s: Tensor, present: Tensor) -> Tensor:
    """Sum of sqrt(p̄_T p̄_S), [N] in [0, 1]. Absent entries count as 1 while the root is taken: that of 0 is slow."""
    return (p_t * p_s).add_(1 - present).sqrt_().mul_(present).sum(0).clamp_max_(1)


def disagreement_released(union: Union) -> Tensor:
    """D as the released code computes it, nats, [N]: each side is looked up in its own list only, a missing token
    has probability 0, both sides are renormalised, then floored at 1e-12 and not renormalised again."""
    k = union.student_k
    own_t, own_s = union.present.clone(), union.present.clone()
    own_t[:k] &= union.shared
    own_s[k:] = False
    p_t = _renormalise(union.teacher_p, union.teacher, as_float(own_t)).p.clamp_min_(_RELEASED_FLOOR)
    p_s = _renormalise(union.student_p, union.student, as_float(own_s)).p.clamp_min_(_RELEASED_FLOOR)
    return (p_t * (p_t / p_s).log_()).mul_(as_float(union.present)).sum(0)


def student_support_coverage(union: Union) -> tuple[Tensor, Tensor]:
    """Eq 10: C = sum of p_T over the student's support, raw mass, [N] in [0, 1], and its Provenance [N].

    Exact where every log p_T at the student's ids is known; otherwise the sum over the known ones (eq 17),
    a lower bound.
    """
    held = union.present[: union.student_k]
    exact = ~any_entry(held & ~union.teacher_known)
    provenance = torch.where(exact, int(Provenance.EXACT), int(Provenance.LOWER_BOUND))
    return _mass(union.teacher_p, union.teacher_known), provenance


def _mass(teacher_p: Tensor, counted: Tensor) -> Tensor:
    return as_float(counted).mul_(teacher_p[: len(counted)]).sum(0).clamp_max_(1)


def student_entropy(supports: Supports, union: Union, variant: str = "paper") -> tuple[Tensor, Tensor]:
    """H(p_S) [N], nats, and its Provenance [N]. union: align(supports).

    paper: the full-vocabulary entropy where it is known, else the entropy of the top-k list with one bucket for
    the rest of the mass, a lower bound. released: the entropy of the list renormalised to sum to 1, / log(max(k, 2)).
    """
    own = union.student_list
    there, entropies = ~own.empty, own.entropy(renormalised=variant == "released")
    provenance = torch.full_like(there, int(Provenance.LOWER_BOUND), dtype=torch.uint8)
    if variant == "released":
        entropies /= own.size.clamp_min(2).log()
    elif supports.student_entropy is not None:
        known = ~supports.student_entropy.isnan()
        entropies = torch.where(known, supports.student_entropy, entropies)
        provenance = torch.where(known, int(Provenance.EXACT), provenance)
        there |= known
    return entropies.masked_fill(~there, torch.nan), provenance.masked_fill(~there, int(Provenance.MISSING))


def prefix_ema(values: Tensor, lengths: Tensor, valid: Tensor, alpha: float = 0.9) -> Tensor:
    """Exponential moving average of C along each response, e_0 = c_0, e_t = alpha e_{t-1} + (1 - alpha) c_t, [N].

    values: float [N]; lengths: integer [B], sums to N; valid: bool [N]. Tokens that are not valid or NaN are
    passed over and stay NaN, so that masked tokens change nothing. Raises ValueError unless 0 <= alpha < 1.
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"--opd-compat-prefix-ema-alpha {alpha} is outside 0..1 (1 excluded)")
    sample = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    index = (valid & ~values.isnan()).nonzero()[:, 0]
    result = torch.full_like(values, torch.nan)
    if not len(index):
        return result
    sample = sample[index]
    first = torch.ones_like(index, dtype=torch.bool)
    first[1:] = sample[1:] != sample[:-1]
    order = torch.arange(len(index))
    position = order - torch.cummax(torch.where(first, order, 0), 0).values
    ema = values[index].double() * torch.where(first, 1.0, 1 - alpha)
    shift, longest = 1, int(position.max())
    while shift <= longest and shift * -math.log(max(alpha, 1e-300)) < -math.log(1e-300):
        ema[shift:] += torch.where(position[shift:] >= shift, alpha**shift * ema[:-shift], 0)
        shift *= 2
    result[index] = ema.to(values.dtype)
    return result


def soft_or(a, b):
    """a + b - a b, for a, b in [0, 1] at least max(a, b), and exactly 1 where a or b is 1 (eqs 15, 16)."""
    return a + b * (1 - a)
