"""What the Triton kernels of the full-distribution losses share: how a program reads its row of logits.

Each thread keeps its own running maximum and sums, a lane, so that no step of a loop waits for other threads; the
LANES of a row meet once, at its end. A tile is TILE = repeats * LANES * VEC neighbouring columns, VEC of them one
16-byte load of one thread. Whole tiles are read without a mask, the rest of the row (TAIL) with one.
Logarithms are in bits inside the kernels, the device's own exponential being 2^x, and in nats outside.
"""

from __future__ import annotations

import math

from ..support import LOG_FLOOR

try:
    import triton
    from triton import language as tl
    from triton.language.extra import libdevice
except ModuleNotFoundError:  # comes with torch for CUDA; without it nothing here is launched
    triton = tl = libdevice = BITS = FLOOR = None
else:
    BITS = tl.constexpr(1 / math.log(2))  # in a nat
    FLOOR = tl.constexpr(LOG_FLOOR)
    ON_DEVICE = tl.constexpr(not triton.knobs.runtime.interpret)


def jit(function):
    return function if triton is None else triton.jit(function)


@jit
def load(row, columns, COLUMNS: tl.constexpr, TAIL: tl.constexpr):
    """Logits in float32; -1e32 beyond the last column: a weight of 0 without infinities."""
    if TAIL:
        inside = columns < COLUMNS
        return tl.where(inside, tl.load(row + columns, mask=inside, other=0.0).to(tl.float32), -1e32)
    else:
        return tl.load(row + columns).to(tl.float32)


@jit
def at_least(x, least):
    return tl.maximum(x, least, propagate_nan=tl.PropagateNan.ALL)


@jit
def by_lane(tile, LANES: tl.constexpr, VEC: tl.constexpr):
    """[TILE] to [repeats, LANES, VEC]: the outer axes are one thread's own."""
    return tl.reshape(tile, (tile.shape[0] // (LANES * VEC), LANES, VEC))


@jit
def lane_sum(tile):
    return tl.sum(tl.sum(tile, 2), 0)


@jit
def log2(x):
    """Of a normal positive x, within 2^-22: one instruction where the library's log2 takes twenty."""
    return libdevice.fast_log2f(x) if ON_DEVICE else tl.log2(x)
