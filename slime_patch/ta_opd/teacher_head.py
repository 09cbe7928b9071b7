"""A teacher kept as its final hidden states and output head: its logits are made for some rows, used and dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .row_statistics.chunks import Rows, row_blocks

BLOCK_ELEMENTS = 1 << 25


@dataclass(frozen=True)
class TeacherHead:
    """hidden: [N, H], final hidden states after the last norm. weight: [V', H], the head, this rank's shard of it.

    Both of one dtype, in which the logits are made; neither gets a gradient. block: rows rebuilt at a time, None for
    as many as fit 2^25 logits. Raises ValueError on shapes or dtypes that do not fit.
    """

    hidden: Tensor
    weight: Tensor
    block: int | None = None

    def __post_init__(self) -> None:
        if self.hidden.ndim != 2 or self.weight.ndim != 2 or self.hidden.shape[1] != self.weight.shape[1]:
            raise ValueError(
                f"a teacher head needs hidden states [N, H] and a weight [V', H]; got {tuple(self.hidden.shape)} and "
                f"{tuple(self.weight.shape)}"
            )
        if self.hidden.dtype != self.weight.dtype:
            raise ValueError(f"hidden states are {self.hidden.dtype} but the head is {self.weight.dtype}")

    @property
    def shape(self) -> torch.Size:
        """[N, V'] of the logits."""
        return torch.Size((len(self.hidden), len(self.weight)))

    def logits(self, rows: Rows) -> Tensor:
        """[n, V'] of these rows."""
        with torch.no_grad():
            return self.hidden[rows] @ self.weight.T

    def blocks(self, rows: Tensor | None) -> Iterator[tuple[slice, Rows]]:
        """row_blocks of the size at which logits are rebuilt."""
        size = self.block or max(1, BLOCK_ELEMENTS // max(1, len(self.weight)))
        return row_blocks(rows, len(self.hidden), size)
