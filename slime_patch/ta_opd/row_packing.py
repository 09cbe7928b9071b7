"""Which rows of hidden states go through the output layer when a loss reads only some of the logits.

Axes: T rows of hidden states, n of them packed, spread evenly and in order over ranks where the head gathers them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NO_ROW = -1


@dataclass(frozen=True)
class RowPacking:
    """rows: int64 [n] on the host, which of the T rows each row of the packed logits is, NO_ROW in those that only make
    the shares of all ranks equally long. count: T. shares: ranks that hold T / shares rows each and pick n / shares."""

    rows: Tensor
    count: int
    shares: int = 1

    @staticmethod
    def of(keep: Tensor, shares: int = 1) -> RowPacking:
        """The rows of `keep`, bool [T] on the host, and at least one of each share, so that every rank's hidden states
        and head are part of the graph. An invariant: shares divide T."""
        assert len(keep) % shares == 0, f"{len(keep)} rows are not spread evenly over {shares} ranks"
        width = len(keep) // shares
        parts = [part.nonzero()[:, 0] + i * width for i, part in enumerate(keep.split(width))]
        most = max(1, *map(len, parts))
        filled = [torch.nn.functional.pad(part, (0, most - len(part)), value=NO_ROW) for part in parts]
        return RowPacking(torch.cat(filled), len(keep), shares)

    def of_share(self, share: int) -> Tensor:
        """int64 [n / shares], what one rank picks from its own rows; its first row in the place of NO_ROW, whose logits
        nobody reads and whose gradient is zero."""
        first = share * (self.count // self.shares)
        return (self.rows.chunk(self.shares)[share] - first).clamp(min=0)

    def packed(self, row: Tensor) -> Tensor:
        """Rows of the T, int64 on the host, as rows of the packed logits; NO_ROW where they have none."""
        there = (self.rows != NO_ROW).nonzero()[:, 0]
        place = torch.full((self.count,), NO_ROW)
        place[self.rows[there]] = there
        return place[row]
