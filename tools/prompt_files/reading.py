"""Rows of JSONL files, Parquet files and hub datasets, each with where it stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HUB = "hub:"


@dataclass(frozen=True)
class Row:
    """number: line of a JSONL file or row of a table, from 1. problem: why there is no record, in one line."""

    source: str
    number: int
    record: dict[str, Any] | None
    problem: str = ""

    @property
    def where(self) -> str:
        return f"{self.source}:{self.number}"


def read_rows(source: str, hub_config: str | None = None, hub_split: str = "train") -> Iterator[Row]:
    """source: a .jsonl or .parquet file, or hub:NAME. Blank lines are passed over. Raises ValueError."""
    if source.startswith(HUB):
        yield from _hub_rows(source, hub_config, hub_split)
        return
    path = Path(source)
    readers = {".jsonl": _json_rows, ".parquet": _parquet_rows}
    if path.suffix not in readers:
        raise ValueError(f"--input {source}: expected a .jsonl or .parquet file, or hub:NAME")
    try:
        yield from readers[path.suffix](path, source)
    except OSError as error:
        raise ValueError(f"--input {source}: cannot be read ({error.strerror or error})") from error


def _json_rows(path: Path, source: str) -> Iterator[Row]:
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                yield Row(source, number, None, f"byte 0x{line[error.start]:02x} is not UTF-8")
            except (ValueError, RecursionError) as error:
                yield Row(source, number, None, f"not JSON ({error})")
            else:
                problem = "" if isinstance(record, dict) else "not an object"
                yield Row(source, number, None if problem else record, problem)


def _parquet_rows(path: Path, source: str) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(4096):
                for record in batch.to_pylist():
                    number += 1
                    yield Row(source, number, record)
    except pa.ArrowException as error:
        raise ValueError(f"--input {source}: cut off or not Parquet ({error})") from error


def _hub_rows(source: str, config: str | None, split: str) -> Iterator[Row]:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ValueError(f"--input {source} needs the datasets library: pip install datasets") from error
    try:
        rows = datasets.load_dataset(source.removeprefix(HUB), config, split=split)
    except (OSError, ValueError) as error:
        raise ValueError(f"--input {source}: {' '.join(str(error).split())}") from error
    for number, record in enumerate(rows, start=1):
        yield Row(source, number, dict(record))
