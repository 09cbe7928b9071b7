"""Rollout files of every format, read in batches of rows with the types of the bank's own Parquet.

Whatever is wrong with a file is Broken, with one line that says what.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from .broken import Broken
from .inputs import Rollout
from .schema import RAW_LISTS, bank_types

BATCH = 65_536
"""Rows of a batch of Parquet; the text formats give smaller ones."""
_LINES = 4096
_CSV_BLOCK = 4 << 20


def read_schema(rollout: Rollout, rows: int | None = None) -> pa.Schema | None:
    """Its columns and types; None for a text file without rows. rows: as the bank's config.json has it, if it does.

    Raises Broken for a file that is empty, cut off, or not of its format.
    """
    path = rollout.path
    if path.stat().st_size == 0:
        if rollout.form == "jsonl" and rows == 0:
            return None
        raise Broken(path, "empty file")
    if rollout.form == "parquet":
        with _parquet(path) as file:
            return file.schema_arrow.remove_metadata()
    with path.open("rb") as handle:
        handle.seek(-1, 2)
        if handle.read(1) != b"\n":
            raise Broken(path, "cut off: the last line has no end")
    first = next(_guarded(path, _FIRST_ROW[rollout.form](path)), None)
    return None if first is None else _text_schema(path, first)


def row_count(rollout: Rollout) -> int | None:
    """Rows as the file's footer has them; None for text. Raises Broken."""
    if rollout.form != "parquet":
        return None
    with _parquet(rollout.path) as file:
        return file.metadata.num_rows


def read_batches(rollout: Rollout, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows in order, with the columns of `schema` (a part of read_schema's). Raises Broken."""
    yield from _guarded(rollout.path, _BATCHES[rollout.form](rollout.path, schema))


def _guarded(path: Path, items: Iterable) -> Iterator:
    """What is raised while an item is made becomes Broken; what the consumer raises does not."""
    items = iter(items)
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except (pa.ArrowException, OSError, ValueError, csv.Error) as error:
            raise Broken(path, f"not readable as {path.suffix[1:]}: {error}") from error
        yield item


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise Broken(path, f"cut off or not Parquet: {error}") from error


def _parquet_batches(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with _parquet(path) as file:
        names = list(schema.names)
        for batch in file.iter_batches(BATCH, columns=names):
            yield batch.select(names)


def _first_csv_row(path: Path) -> Iterator[dict]:
    with path.open(newline="", encoding="utf-8") as handle:
        for row in itertools.islice(csv.DictReader(handle, strict=True), 1):
            yield {name: json.loads(row[name]) if name in RAW_LISTS else row[name] for name in row}


def _first_json_row(path: Path) -> Iterator[dict]:
    for _, row in itertools.islice(_json_rows(path), 1):
        yield row


def _text_schema(path: Path, first: dict) -> pa.Schema:
    """The types of the bank's columns; a raw list is as long as it is in the first row."""
    types = bank_types()
    unknown = [str(name) for name in first if name not in types]
    if unknown:
        raise Broken(path, f"unknown columns: {', '.join(unknown)}")
    return pa.schema(
        [
            (name, pa.list_(types[name], len(value)) if name in RAW_LISTS else types[name])
            for name, value in first.items()
        ]
    )


def _csv_batches(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    reader = pa_csv.open_csv(
        path,
        read_options=pa_csv.ReadOptions(block_size=_CSV_BLOCK, use_threads=False),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types={field.name: pa.string() if _is_list(field) else field.type for field in schema},
            include_columns=schema.names,
            null_values=[""],
            strings_can_be_null=False,
        ),
    )
    for batch in reader:
        columns = [
            pa.array([json.loads(text) for text in column.to_pylist()], field.type) if _is_list(field) else column
            for field, column in zip(schema, batch.columns, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _is_list(field: pa.Field) -> bool:
    return pa.types.is_fixed_size_list(field.type)


def _json_batches(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows, names = _json_rows(path), set(schema.names)
    while numbered := list(itertools.islice(rows, _LINES)):
        for number, row in numbered:
            if not names <= row.keys():
                raise ValueError(f"line {number} lacks {', '.join(sorted(names - row.keys()))}")
        yield pa.RecordBatch.from_pylist([row for _, row in numbered], schema)


def _json_rows(path: Path) -> Iterator[tuple[int, dict]]:
    """(line number, row); every row has the keys of the first."""
    with path.open(encoding="utf-8") as handle:
        keys = None
        for number, line in enumerate(handle, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is not an object")
            keys = row.keys() if keys is None else keys
            if row.keys() != keys:
                raise ValueError(f"line {number} has other keys than line 1: {', '.join(sorted(row.keys() ^ keys))}")
            yield number, row


_FIRST_ROW = {"csv": _first_csv_row, "jsonl": _first_json_row}
_BATCHES = {"parquet": _parquet_batches, "csv": _csv_batches, "jsonl": _json_batches}
