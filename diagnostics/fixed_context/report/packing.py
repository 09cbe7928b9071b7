"""Numbers as base64: a page of 57,600 tokens stays small and opens fast, since only what is shown is decoded."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

NO_TEXT = 0xFFFFFF


def pack_half(values: ArrayLike) -> str:
    """float16, little-endian: 11 significant bits, at most 0.05% off, NaN for what is not known. Beyond +-65504 it is
    infinite."""
    with np.errstate(over="ignore"):
        return _text(np.asarray(values, dtype=np.float64).astype("<f2"))


def pack_numbers(values: ArrayLike) -> str:
    """Whole numbers below 2**24, 3 bytes each, little-endian."""
    array = np.ascontiguousarray(values, dtype="<u4").reshape(-1)
    return _text(np.ascontiguousarray(array.view(np.uint8).reshape(-1, 4)[:, :3]))


def pack_bits(mask: NDArray[np.bool_]) -> str:
    """A bit a token, the first in the lowest place."""
    return _text(np.packbits(mask, bitorder="little"))


def _text(array: NDArray) -> str:
    return base64.b64encode(array.tobytes()).decode()


class StringTable(dict[str, int]):
    """Texts numbered in order of first use: each is in the file once."""

    def number(self, text: str) -> int:
        return self.setdefault(text, len(self))


def safe_json(value: Any) -> str:
    """JSON in ASCII without `<`, `>` and `&`: no text can end or reopen the script element it lies in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
