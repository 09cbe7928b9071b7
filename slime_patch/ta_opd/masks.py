"""Operations on boolean masks and ids that torch leaves unvectorised on a CPU; same bits on every device.

Axes: K support entries first, N tokens last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def compare(relation: Callable[[Any, Any], Any], a: Tensor, b: Tensor | int) -> Tensor:
    """relation(a, b) as a bool tensor, relation being one of the module operator; no gradient."""
    if a.device.type != "cpu":
        return relation(a, b)
    return torch.from_numpy(relation(a.numpy(), b.numpy() if isinstance(b, Tensor) else b))


def any_entry(mask: Tensor) -> Tensor:
    """mask.any(0) of a bool mask [K, N], K > 0."""
    return mask.view(torch.uint8).amax(0).view(torch.bool)


def count(mask: Tensor) -> Tensor:
    """mask.sum(0) of a bool mask [K, N], float32."""
    if mask.device.type != "cpu" or len(mask) > 255:
        return mask.sum(0).float()
    return torch.from_numpy(np.add.reduce(mask.numpy().view(np.uint8), axis=0, dtype=np.uint8)).float()


def as_float(mask: Tensor) -> Tensor:
    """A bool mask as float32, 1 where it holds."""
    return mask.view(torch.uint8).float()


def filled(values: Tensor, held: Tensor, fill: float) -> Tensor:
    """values, contiguous, with `fill` wherever held is False; values itself where it is True everywhere."""
    return values if bool(held.view(torch.uint8).all()) else values.masked_fill(~held, fill)


def entries_first(rows: Tensor) -> Tensor:
    """[N, K] to contiguous [K, N]."""
    if rows.device.type != "cpu":
        return rows.T.contiguous()
    return torch.from_numpy(np.ascontiguousarray(rows.numpy().T))


def numbering(k: int, device: torch.device) -> Tensor:
    """1..K, bytes where they suffice."""
    return torch.arange(1, k + 1, dtype=torch.uint8 if k < 256 else torch.int16, device=device)


def first_place(mask: Tensor) -> Tensor:
    """1 + the first entry at which the mask [K, N] holds, 0 where it nowhere does; int64 [N]."""
    number = numbering(len(mask), mask.device)
    backwards = mask.view(torch.uint8).to(number.dtype).mul(number.flip(0)[:, None]).amax(0).long()
    return (len(mask) + 1 - backwards).mul_(backwards > 0)
