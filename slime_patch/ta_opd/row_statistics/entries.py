"""The one table of the divergences' vocabulary entries: what each adds to its sum, and its slope in the student.

Axes: [..., V] over a vocabulary or the buckets of a list. p, q: probabilities of the student S and the (detached)
target Q, above 0; gap: log p - log q. M = weight Q + (1 - weight) S, and r = M / S, so that log p - log m = -log r.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..row_plan import Divergence


def _forward_kl(w: float, p: Tensor, q: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    return -q * gap, -q


def _reverse_kl(w: float, p: Tensor, q: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    e = p * gap
    return e, e + p


def _jsd(w: float, p: Tensor, q: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    log_r = _mixture_ratio(w, p, q).log_()
    u = (p * log_r).mul_(w - 1)
    return u - w * q * (gap + log_r), u


def _skew_reverse_kl(w: float, p: Tensor, q: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    r = _mixture_ratio(w, p, q)
    e = -p * r.log()
    return e, e + p * (1 - (1 - w) / r)


def _skew_forward_kl(w: float, p: Tensor, q: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    r = _mixture_ratio(w, p, q)
    return -q * (gap + r.log()), (w - 1) * (q / r)


ENTRIES: dict[str, Callable[[float, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "forward_kl": _forward_kl,
    "reverse_kl": _reverse_kl,
    "jsd": _jsd,
    "skew_reverse_kl": _skew_reverse_kl,
    "skew_forward_kl": _skew_forward_kl,
}


def entries(divergence: Divergence, p: Tensor, q: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    """(e, u = de / dlog p), [..., V] each; an entry above the divergence's clip is the clip and has no slope."""
    e, u = ENTRIES[divergence.kind](divergence.weight, p, q, gap)
    if divergence.clip == math.inf:
        return e, u
    return e.clamp(max=divergence.clip), u.masked_fill(e > divergence.clip, 0)


def row_dot(a: Tensor, b: Tensor) -> Tensor:
    """sum over v of a b, [n, V] to [n]; a single row the way that is faster on a CPU."""
    if len(a) == 1:
        return torch.mv(a, b[0])
    return torch.linalg.vecdot(a, b)


def _mixture_ratio(weight: float, p: Tensor, q: Tensor) -> Tensor:
    return (q / p).mul_(weight).add_(1 - weight)
