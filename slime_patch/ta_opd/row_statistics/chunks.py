"""Which rows of the logits are read together."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

CACHED_ELEMENTS = {"cpu": 1 << 17, "cuda": 1 << 24}
"""Elements of a block of rows, per device type: on a CPU about what its second-level cache holds."""

Rows = slice | Tensor


def row_blocks(rows: Tensor | None, n: int, size: int) -> Iterator[tuple[slice, Rows]]:
    """(place among the rows that are read, which rows of the logits), `size` at a time.

    rows: int64, ascending, or None for all n. Consecutive rows come as a slice, which copies nothing.
    """
    for start in range(0, n if rows is None else len(rows), size):
        if rows is None:
            yield slice(start, min(start + size, n)), slice(start, min(start + size, n))
            continue
        chosen = rows[start : start + size]
        first, last = int(chosen[0]), int(chosen[-1])
        joined = last - first + 1 == len(chosen)
        yield slice(start, start + len(chosen)), slice(first, last + 1) if joined else chosen


def block_size(logits: Tensor) -> int:
    """Rows of a block that stays in cache."""
    return max(1, CACHED_ELEMENTS.get(logits.device.type, 1 << 24) // max(1, logits.shape[1]))
