"""A few rows of both sides in float32, small enough to stay in cache: every array is computed once, when asked for.

Axes: n rows, V valid columns of this shard. Log-probs, entries and gradients are those of ta_opd.divergences.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from ..row_plan import Divergence
from ..support import LOG_FLOOR
from .entries import entries, row_dot

STATISTICS = 12
"""student_lse, teacher_lse, E_S[s], E_T[t], E_S[s - t], E_T[t - s], target_lse, E_Q[q], E_Q[t - s], student_label,
teacher_label, lowest; s, t the logits over the temperature, q = (1 - taid_t) s + taid_t t."""


class RowBlock:
    """student, teacher: [n, >= columns] logits; teacher may be None for what only reads the student.

    normalisers None: log-probs by this shard's own sums, exact where no log-prob lies below LOG_FLOOR. Else [n, 3],
    log-sum-exps of s, t and q over all shards, and log-probs are floored.
    """

    def __init__(
        self,
        student: Tensor,
        teacher: Tensor | None,
        *,
        columns: int,
        temperature: float,
        taid_t: float = 1.0,
        taid_space: str = "logit",
        normalisers: Tensor | None = None,
    ) -> None:
        self.s = _scaled(student, columns, temperature)
        self.t = None if teacher is None else _scaled(teacher, columns, temperature)
        self.temperature, self.taid_t, self.taid_space = temperature, taid_t, taid_space
        self.floored = normalisers is not None
        if normalisers is not None:
            self.student_lse, self.teacher_lse, self.target_lse = normalisers[:, :, None].unbind(1)
            return
        self.p, self.student_lse = _softmax(self.s)
        if self.t is None:
            return
        self.p_t, self.teacher_lse = _softmax(self.t)
        self.target_lse = self.teacher_lse
        if self._geometric:
            self.q, self.target_lse = _softmax(torch.lerp(self.s, self.t, taid_t))

    @property
    def _geometric(self) -> bool:
        return self.taid_t < 1 and self.taid_space == "logit"

    @cached_property
    def log_p(self) -> Tensor:
        return self._floor(self.s - self.student_lse)

    @cached_property
    def p(self) -> Tensor:
        return self.log_p.exp()

    @cached_property
    def log_t(self) -> Tensor:
        return self._floor(self.t - self.teacher_lse)

    @cached_property
    def p_t(self) -> Tensor:
        return self.log_t.exp()

    @cached_property
    def log_q(self) -> Tensor:
        if self.taid_t == 1:
            return self.log_t
        if self.taid_space == "prob":
            return self.q.log()
        shift = self.target_lse - torch.lerp(self.student_lse, self.teacher_lse, self.taid_t)
        return self._floor(torch.lerp(self.log_p, self.log_t, self.taid_t).sub_(shift))

    @cached_property
    def q(self) -> Tensor:
        if self.taid_t == 1:
            return self.p_t
        return torch.lerp(self.p, self.p_t, self.taid_t) if self.taid_space == "prob" else self.log_q.exp()

    @cached_property
    def gap(self) -> Tensor:
        """s - t."""
        return self.s - self.t

    @cached_property
    def impossible(self) -> Tensor | None:
        """bool [n, V], student logits of -inf; None where there are none."""
        lowest = self.s.amin(-1, keepdim=True) if self.s.shape[1] else self.s.new_zeros(())
        return self.s == -torch.inf if bool((lowest == -torch.inf).any()) else None

    def statistics(self, token_columns: Tensor | None) -> Tensor:
        """[n, 12], see STATISTICS, of a block without normalisers; means are NaN in rows that hold a -inf."""
        s, t, zero = self.s, self.t, self.s.new_zeros(len(self.s))
        columns = [zero] * STATISTICS
        columns[0], columns[2] = self.student_lse[:, 0], row_dot(self.p, s)
        columns[11] = s.amin(-1).sub_(columns[0])
        if t is not None:
            columns[1], columns[3] = self.teacher_lse[:, 0], row_dot(self.p_t, t)
            columns[4], columns[5] = row_dot(self.p, self.gap), row_dot(self.p_t, self.gap).neg_()
            columns[6], columns[7], columns[8] = columns[1], columns[3], columns[5]
            columns[11] = torch.minimum(columns[11], t.amin(-1).sub_(columns[1]))
            if self._geometric:
                columns[6], columns[7] = self.target_lse[:, 0], row_dot(self.q, torch.lerp(s, t, self.taid_t))
                columns[8] = row_dot(self.q, self.gap).neg_()
        if token_columns is not None:
            there, place = token_columns >= 0, token_columns.clamp(min=0)[:, None]
            columns[9] = torch.where(there, s.gather(1, place)[:, 0], 0)
            columns[10] = zero if t is None else torch.where(there, t.gather(1, place)[:, 0], 0)
        return torch.stack(columns, -1)

    def statistics_with_impossible(self, token_columns: Tensor | None) -> Tensor:
        """As `statistics`, where logits may be -inf, even all of a row's, or there is no column at all."""
        if not self.s.shape[1]:
            out = self.s.new_zeros(len(self.s), STATISTICS)
            out[:, [0, 1, 6]], out[:, 11] = -torch.inf, torch.inf
            return out
        out = self.statistics(token_columns)
        for z, p, lse, mean in ((self.s, self.p, 0, 2), (self.t, self.__dict__.get("p_t"), 1, 3)):
            rows = None if z is None else (z.amin(-1) == -torch.inf).nonzero()[:, 0]
            if rows is None or not len(rows):
                continue
            held = z[rows].masked_fill(z[rows] == -torch.inf, 0)
            out[rows, mean], out[rows, 11] = row_dot(p[rows], held), -torch.inf
            nothing = rows[(z[rows] == -torch.inf).all(-1)]
            out[nothing, lse], out[nothing, mean] = -torch.inf, 0
        return out

    def entry_sums(self, divergence: Divergence) -> Tensor:
        """[n, 3]: sum e, sum u, the cross-entropy H(Q, S)."""
        e, u = self.entries(divergence)
        return torch.stack((e.sum(-1), u.sum(-1), row_dot(self.q, self.log_p).neg_()), -1)

    def entries(self, divergence: Divergence) -> tuple[Tensor, Tensor]:
        """(e, u), [n, V]; an impossible token's u is 0."""
        e, u = entries(divergence, self.p, self.q, self.log_p - self.log_q)
        return e, u if self.impossible is None else u.masked_fill(self.impossible, 0)

    def gradient(
        self, coefficients: Tensor, divergence: Divergence | None, token_columns: Tensor | None, out: Tensor
    ) -> None:
        """Writes (p (A + B (s - t) + C s) - F q + J u, + L at the token) / temperature into out [n, V' >= V]."""
        columns = self.s.shape[1]
        a, b, c, f, label, j = (coefficients / self.temperature)[:, :, None].unbind(1)
        _, has_b, has_c, has_f, has_label, has_j = (coefficients != 0).any(0).tolist()
        factor = a
        if has_b:
            # A row without B may hold -inf, and 0 * inf is not 0.
            gap = self.gap if bool((b != 0).all()) else self.gap.masked_fill(b == 0, 0)
            factor = torch.addcmul(a, gap, b)
        if has_c:
            factor = torch.addcmul(factor, self.s, c)
        ds = self.p * factor
        if has_f:
            ds.addcmul_(self.q, -f)
        if has_j:
            ds.addcmul_(self.entries(divergence)[1], j)
        if has_label:
            rows = (token_columns >= 0).nonzero()[:, 0]
            ds[rows, token_columns[rows]] += label[rows, 0]
        if self.impossible is not None:
            ds.masked_fill_(self.impossible, 0)
        out[:, :columns] = ds
        out[:, columns:] = 0

    def floored_target_lse(self) -> Tensor:
        """[n], log-sum-exp of (1 - taid_t) lp_S + taid_t lp_T, floored, in the units of (1 - taid_t) s + taid_t t."""
        shift = torch.lerp(self.student_lse, self.teacher_lse, self.taid_t)[:, 0]
        return torch.lerp(self.log_p, self.log_t, self.taid_t).logsumexp(-1) + shift

    def _floor(self, log_probs: Tensor) -> Tensor:
        return log_probs.clamp_(min=LOG_FLOOR) if self.floored else log_probs


def _scaled(logits: Tensor, columns: int, temperature: float) -> Tensor:
    z = (logits if columns == logits.shape[1] else logits[:, :columns]).float()
    return z if temperature == 1 else z / temperature


def _softmax(z: Tensor) -> tuple[Tensor, Tensor]:
    """(softmax [n, V], log-sum-exp [n, 1]); NaN for a row that is all -inf here."""
    if not z.shape[1]:
        return z, z.new_full((len(z), 1), -math.inf)
    p = torch.softmax(z, -1)
    total = p.sum(-1, keepdim=True)  # see one_pass
    lse = z.amax(-1, keepdim=True) - p.amax(-1, keepdim=True).log_() + total.log()
    return p.div_(total), lse
