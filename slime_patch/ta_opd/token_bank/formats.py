"""Blocks of columns written one after another as Parquet (zstd), CSV or JSONL; null where a number is not known."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..support import NO_TOKEN
from .columns import Columns, Text

ROW_GROUP = 131_072
"""Rows that are buffered and encoded together: the writer's memory, and what a reader takes in at a time."""
FEW_VALUED = ("Coverlap", "Cjaccard", "budget_ratio")
"""Float columns with so few values that a dictionary pays."""
SOUGHT_BY = ["rollout_id", "sample_index"]
"""Columns whose least and greatest value each row group tells, so that readers can pass over it."""


def write_parquet(path: Path, blocks: Iterable[Columns]) -> None:
    """Raises ValueError where there is no block."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = (_arrow_table(pa, group) for group in _groups(blocks))
    first = next(tables, None)
    if first is None:
        raise ValueError("a table needs at least one block, of no row if need be")
    with pq.ParquetWriter(path, first.schema, **parquet_settings(pa, first.schema)) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table, row_group_size=len(table) or None)


def _groups(blocks: Iterable[Columns]) -> Iterator[list[Columns]]:
    """Consecutive blocks of ROW_GROUP rows together, or one larger block."""
    group, rows = [], 0
    for columns in blocks:
        count = len(columns["token_id"])
        if group and rows + count > ROW_GROUP:
            yield group
            group, rows = [], 0
        group.append(columns)
        rows += count
    if group:
        yield group


def parquet_settings(pa, schema) -> dict[str, Any]:
    """Floats are split into byte streams, of which zstd packs the exponents and passes over the rest: a dictionary of
    them costs ten times the time and more room, a level above 0 twice the time for a twentieth of the room. Positions
    and token ids are differences, of which a row group has too many for a dictionary; all else is one, constants too.
    """
    encodings, dictionaries = {}, []
    for field in schema:
        listed = pa.types.is_fixed_size_list(field.type)
        path, kind = (f"{field.name}.list.element", field.type.value_type) if listed else (field.name, field.type)
        if field.name == "tok_pos" or (field.name.endswith(("_id", "_ids")) and pa.types.is_integer(kind)):
            encodings[path] = "DELTA_BINARY_PACKED"
        elif pa.types.is_floating(kind) and field.name not in FEW_VALUED:
            encodings[path] = "BYTE_STREAM_SPLIT"
        else:
            dictionaries.append(path)
    return {
        "compression": "zstd",
        "compression_level": -7,
        "write_page_checksum": True,
        "use_dictionary": dictionaries,
        "column_encoding": encodings,
        "write_statistics": SOUGHT_BY,
        "write_batch_size": ROW_GROUP,
    }


def _arrow_table(pa, blocks: list[Columns]):
    return pa.table({name: _arrow(pa, [columns[name] for columns in blocks]) for name in blocks[0]})


def _arrow(pa, parts: list):
    """One column's blocks, joined."""
    if isinstance(parts[0], Text):
        codes = np.concatenate([part.codes for part in parts], dtype=np.int32, casting="same_kind")
        return pa.DictionaryArray.from_arrays(codes, pa.array(parts[0].names, pa.string()))
    unknown = [_unknown(part) for part in parts]
    values = np.concatenate([np.ma.getdata(part) for part in parts])
    mask = np.concatenate(unknown).ravel() if any(part.any() for part in unknown) else None
    flat = pa.array(values.ravel(), mask=mask)
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _unknown(values: np.ndarray) -> np.ndarray:
    """Where a number is not known: masked, not finite, or an empty entry of a raw list."""
    if values.dtype.kind == "f":
        return ~np.isfinite(values)
    return values == NO_TOKEN if values.ndim == 2 else np.ma.getmaskarray(values)


def _rows(columns: Columns) -> Iterator[tuple[Any, ...]]:
    """Rows of plain Python values; None for what is not known."""

    def plain(values) -> list[Any]:
        if isinstance(values, Text):
            return values.tolist()
        unknown = _unknown(values)
        if not unknown.any():
            return np.ma.getdata(values).tolist()
        return np.where(unknown, None, np.ma.getdata(values).astype(object)).tolist()

    return zip(*(plain(values) for values in columns.values()), strict=True)


def write_csv(path: Path, blocks: Iterable[Columns]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        for number, columns in enumerate(blocks):
            if number == 0:
                writer.writerow(columns)
            for row in _rows(columns):
                writer.writerow(json.dumps(value) if isinstance(value, list) else value for value in row)


def write_jsonl(path: Path, blocks: Iterable[Columns]) -> None:
    with path.open("w", encoding="utf-8") as handle:
        for columns in blocks:
            for row in _rows(columns):
                handle.write(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n")
