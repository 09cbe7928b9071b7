"""Rows of [log-prob, token id, text] triples, as SGLang nests them in JSON, straight into arrays.

An answer of 8,192 rows x 64 entries is 16 MB of JSON, so it is read block by block: no Python object lives longer than
its block, and other threads run between two blocks.

Axes: R rows, K entries of the widest row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..support import NO_TOKEN

Block = tuple[int, NDArray[np.int32], NDArray[np.float32]]

_ENTRIES_PER_BLOCK = 16_384
_NUMBER_CHARACTERS = b"0123456789.eE+-"
_LARGEST_ID = np.iinfo(np.int32).max


def blocks(rows: Sequence[bytes], width: int) -> Iterator[Block]:
    """(first row, ids int32 [m, width], logprobs float32 [m, width]) for successive groups of m rows.

    rows: R JSON texts, each a list of triples or null. A row with fewer than `width` entries is filled up with
    NO_TOKEN and NaN; a log-prob that is null becomes NaN. Raises ValueError for a row that is wider or is anything
    else than triples.
    """
    step = max(1, _ENTRIES_PER_BLOCK // max(1, width))
    for start in range(0, len(rows), step):
        group = rows[start : start + step]
        text = b",".join(group)
        numbers = _plain(text, len(group), width)
        if numbers is None:
            numbers = _any_form(text, len(group), width)
        yield start, as_ids(numbers[..., 1]), as_float32(numbers[..., 0])


def as_ids(values: NDArray[Any]) -> NDArray[np.int32]:
    """Numbers as token ids, NO_TOKEN passing through. Raises ValueError for what is no id."""
    if values.size and not (values.min() >= NO_TOKEN and values.max() <= _LARGEST_ID):
        raise ValueError(f"token ids {values.min()}..{values.max()} are outside 0..{_LARGEST_ID}")
    ids = values.astype(np.int32)
    if (ids != values).any():
        raise ValueError(f"token id {values[ids != values].flat[0]} is not a whole number")
    return ids


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers as float32; those below its range become -inf."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _plain(text: bytes, rows: int, width: int) -> NDArray[np.float64] | None:
    """[rows, width, 2] where every row is `width` triples [number, number, null], else None.

    Without its numbers the text must be exactly the brackets, commas and nulls of that shape.
    """
    row = b"[" + b",".join([b"[,,null]"] * width) + b"]"
    if text.translate(None, _NUMBER_CHARACTERS) != b",".join([row] * rows):
        return None
    flat = text.replace(b",null", b"").translate(None, b"[]")
    return np.array(_decoders()[0].decode(b"[" + flat + b"]"), np.float64).reshape(rows, width, 2)


def _any_form(text: bytes, rows: int, width: int) -> NDArray[np.float64]:
    """[rows, width, 2] of rows with nulls, texts or fewer entries."""
    numbers = np.full((rows, width, 2), (np.nan, NO_TOKEN), np.float64)
    for out, row in zip(numbers, _decoders()[1].decode(b"[" + text + b"]"), strict=True):
        if row is None:
            continue
        if len(row) > width:
            raise ValueError(f"a row has {len(row)} entries; {width} were asked for")
        out[: len(row)] = np.array([entry[:2] for entry in row], np.float64).reshape(len(row), 2)
    return numbers


@cache
def _decoders() -> tuple[Any, Any]:
    import msgspec

    triples = list[tuple[float | None, int, str | None]]
    return msgspec.json.Decoder(list[float]), msgspec.json.Decoder(list[triples | None])
