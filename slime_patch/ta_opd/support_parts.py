"""A rollout's supports as they come, sample by sample: walked in blocks of rows without ever joining them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .support import Supports, TopK

Parts = Supports | Sequence[Supports]
"""Supports of a whole batch, or of its samples one after another (all of the same K and with the same fields)."""


def as_parts(supports: Parts) -> Sequence[Supports]:
    """The samples of a batch; raises ValueError where they differ in K or in the fields that they have."""
    if isinstance(supports, Supports):
        return (supports,)
    shapes = {(part.student.k, part.teacher.k, part.known_fields) for part in supports}
    if len(shapes) > 1:
        raise ValueError(f"samples must agree on K and on what is known (NaN rows for what is not); got {shapes}")
    return supports


def count_rows(supports: Parts) -> int:
    """N, the response tokens of all samples."""
    return sum(len(part) for part in as_parts(supports))


def row_blocks(supports: Parts, size: int) -> Iterator[tuple[slice, Supports]]:
    """(rows of the batch, their Supports) in blocks of `size` rows, the last one shorter, across samples.

    Rows are copied only where a block holds those of several samples.
    """
    start, count, pending = 0, 0, []
    for part in as_parts(supports):
        used = 0
        while used < len(part):
            step = min(size - count, len(part) - used)
            pending.append(part if step == len(part) else part.rows(slice(used, used + step)))
            used, count = used + step, count + step
            if count == size:
                yield slice(start, start + count), _joined(pending)
                start, count, pending = start + count, 0, []
    if pending:
        yield slice(start, start + count), _joined(pending)


def known_of(supports: Parts, name: str) -> Tensor:
    """A number of the whole batch, float32 [N], by its field's name in Supports; NaN where it is not known."""
    known = [torch.zeros(0)]
    for part in as_parts(supports):
        values = getattr(part, name)
        known.append(torch.full((len(part),), torch.nan) if values is None else values.float())
    return torch.cat(known)


def no_rows(supports: Parts, k: int) -> Supports:
    """Supports of no token, of the batch's own K, or of `k` where the batch has no sample."""
    for part in as_parts(supports):
        return part.rows(slice(0))
    return Supports(TopK.missing(0, k), TopK.missing(0, k))


def _joined(parts: list[Supports]) -> Supports:
    return parts[0] if len(parts) == 1 else Supports.concat(parts)
