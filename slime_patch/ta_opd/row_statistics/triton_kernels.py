"""The row primitives on CUDA: statistics, entry sums and gradients of the full-distribution losses, by Triton kernels.

The same functions as torch_kernels. Axes: n rows, V' local columns. S is the student, T the teacher, Q TAID's
target (T where taid_t is 1); s, t, q their logits over the temperature. Results are float32; nothing waits for the
device. A row of logits must be dense (stride 1), rows may lie anywhere.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..row_plan import Divergence
from .triton_entries import entry_sums_kernel, gradient_kernel
from .triton_statistics import statistics_kernel
from .triton_tiles import triton

AVAILABLE = triton is not None


class Tile(NamedTuple):
    """How a program reads its row: each thread of `warps` warps `repeats` loads at once, `vector` columns a load."""

    repeats: int
    warps: int
    vector: int

    @property
    def columns(self) -> int:
        return self.repeats * 32 * self.warps * self.vector

    def lanes(self) -> dict[str, int]:
        """Launch options of the kernels that sum."""
        return {"TILE": self.columns, "LANES": 32 * self.warps, "VEC": self.vector, "num_warps": self.warps}


def _tile(columns: int, *logits: Tensor | None) -> Tile:
    """16 float32 values of a side in a thread at once: no spills, and four rows on a multiprocessor at a time.

    Rows that do not all start at a multiple of 16 columns cannot be read 16 bytes at a time.
    """
    given = [x for x in logits if x is not None]
    aligned = all(x.stride(0) % 16 == 0 and x.data_ptr() % 16 == 0 for x in given)
    vector = 16 // min(x.element_size() for x in given) if aligned else 1
    return Tile(16 // vector, 8 if columns > 4096 else 4, vector)


def _taid(taid_t: float, space: str) -> str | None:
    return None if taid_t == 1 else space


def _check(*logits: Tensor | None) -> None:
    for x in logits:
        assert x is None or (x.ndim == 2 and x.stride(1) == 1), "logits are [n, V'], dense along the vocabulary"


def statistics(
    s: Tensor,
    t: Tensor | None,
    *,
    columns: int,
    temperature: float,
    taid_t: float,
    token_columns: Tensor | None,
    rows: Tensor | None = None,
    tile: Tile | None = None,
) -> Tensor:
    """One read of the logits, [n, 12] float32, of this shard alone.

    student_lse, teacher_lse, student_mean E_S[s], teacher_mean E_T[t], student_gap E_S[s-t], teacher_gap E_T[t-s],
    target_lse, target_mean E_Q[q], target_gap E_Q[t-s], student_label, teacher_label, and lowest, the least log-prob
    of either side under its local normaliser: -inf where a logit is -inf, +inf without columns. Gaps and target are
    not to be used in rows that have an infinite logit. s, t: [N, V'], the first `columns` of them valid; t None leaves
    its columns 0. token_columns: integer [n], -1 where the label is 0. rows: integer [n], the rows to read, or all.
    """
    return _statistics(s, t, None, columns, temperature, taid_t, token_columns, rows, tile)


def floored_target_lse(
    s: Tensor,
    t: Tensor,
    normalisers: Tensor,
    *,
    columns: int,
    temperature: float,
    taid_t: float,
    rows: Tensor | None = None,
    tile: Tile | None = None,
) -> Tensor:
    """This shard's part of TAID's normaliser in rows that touch LOG_FLOOR, [n]; normalisers as in entry_sums."""
    return _statistics(s, t, normalisers, columns, temperature, taid_t, None, rows, tile)[:, 6]


def _statistics(
    s: Tensor,
    t: Tensor | None,
    normalisers: Tensor | None,
    columns: int,
    temperature: float,
    taid_t: float,
    token_columns: Tensor | None,
    rows: Tensor | None,
    tile: Tile | None,
) -> Tensor:
    _check(s, t)
    n = len(s) if rows is None else len(rows)
    out = s.new_zeros((n, 12), dtype=torch.float32)
    if n:
        statistics_kernel[(n,)](
            s,
            t,
            rows,
            None if normalisers is None else normalisers.contiguous(),
            token_columns,
            out,
            s.stride(0),
            0 if t is None else t.stride(0),
            float(temperature),
            float(taid_t),
            COLUMNS=columns,
            TAID=taid_t != 1,
            **(tile or _tile(columns, s, t)).lanes(),
        )
    return out


def entry_sums(
    s: Tensor,
    t: Tensor,
    normalisers: Tensor,
    divergence: Divergence,
    *,
    columns: int,
    temperature: float,
    taid_t: float,
    taid_space: str,
    rows: Tensor | None = None,
    tile: Tile | None = None,
) -> Tensor:
    """A second read, [n, 3] float32: sum e, sum u and H(Q, S) of the divergence's entries e, u = de / dlog p_S.

    normalisers: [n, 3], student_lse, teacher_lse, target_lse of the whole vocabulary (the last read by logit-space
    TAID only). Log-probs count as at least LOG_FLOOR; an entry above the clip counts as the clip and has u = 0, as
    has one whose student logit is -inf. rows: as in statistics.
    """
    _check(s, t)
    n = len(s) if rows is None else len(rows)
    out = s.new_empty((n, 3), dtype=torch.float32)
    if n:
        entry_sums_kernel[(n,)](
            s,
            t,
            rows,
            normalisers.contiguous(),
            out,
            s.stride(0),
            t.stride(0),
            float(temperature),
            float(taid_t),
            divergence.weight,
            divergence.clip,
            COLUMNS=columns,
            TAID=_taid(taid_t, taid_space),
            KIND=divergence.kind,
            CLIP=divergence.clip < math.inf,
            **(tile or _tile(columns, s, t)).lanes(),
        )
    return out


def gradient(
    s: Tensor,
    t: Tensor | None,
    normalisers: Tensor,
    coefficients: Tensor,
    divergence: Divergence | None,
    *,
    columns: int,
    temperature: float,
    taid_t: float,
    taid_space: str,
    token_columns: Tensor | None,
    out: Tensor,
    tile: Tile | None = None,
) -> None:
    """Writes ds / temperature, ds_v = p_v (A + B (s - t)_v + C s_v) - F q_v + L [v = token] + J u_v, into out [n, V'].

    coefficients: [n, 6], A, B, C, F, L, J. A row of zeros is written as zeros without reading its logits, and so is
    what lies beyond `columns`. Log-probs count as at least LOG_FLOOR; a student logit of -inf gets 0. divergence
    None: J is not read. t None: B, F and J are not read. out may be s itself. normalisers: as in entry_sums.
    """
    _check(s, t, out)
    tile = tile or _tile(columns, s, t)
    out[:, columns:] = 0
    if len(s):
        gradient_kernel[(len(s),)](
            s,
            t,
            normalisers.contiguous(),
            coefficients.contiguous(),
            token_columns,
            out,
            s.stride(0),
            0 if t is None else t.stride(0),
            out.stride(0),
            float(temperature),
            float(taid_t),
            1.0 if divergence is None else divergence.weight,
            math.inf if divergence is None else divergence.clip,
            COLUMNS=columns,
            TAID=_taid(taid_t, taid_space),
            KIND=None if divergence is None else divergence.kind,
            CLIP=divergence is not None and divergence.clip < math.inf,
            TILE=tile.columns,
            num_warps=tile.warps,
        )
