"""A person's files, opened so that what is wrong with one is a line with its name."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def read_json(path: Path) -> Any:
    """Raises ValueError, naming the file, where it is no JSON."""
    return parsed_json(path.read_bytes(), path)


def parsed_json(text: bytes, path: str | Path) -> Any:
    """The value of a JSON text of a file. Raises ValueError, naming the file, where it is none."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no JSON ({error})") from error


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table, each page compared with its checksum where the file has them. Raises ValueError, naming the file,
    where it cannot be read."""
    checked = {"page_checksum_verification": True, "partitioning": None}
    return of_parquet(path, lambda: pq.read_table(path, columns=columns, **checked))


def row_count(path: Path) -> int:
    """Of a Parquet file. Raises ValueError, naming the file, where it cannot be read."""
    return of_parquet(path, lambda: pq.read_metadata(path).num_rows)


def make_place(path: Path, flag: str, inputs: Iterable[tuple[str, str | Path]] = ()) -> None:
    """The directory that the file will lie in. inputs: flags and files that are read. Raises ValueError, naming the
    flag, where it cannot be made or written to, or the file is a directory or one that is read."""
    for read, other in inputs:
        if Path(other).resolve() == path.resolve():
            raise ValueError(f"{flag} {path} is what {read} reads; write to another file")
    if path.is_dir():
        raise ValueError(f"{flag} {path}: is a directory")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(f"{flag} {path}: {path.parent}: {error.strerror}") from error


def of_parquet(path: Path, read: Callable[[], Any]) -> Any:
    """What `read` gives of a Parquet file. Raises ValueError, naming the file, where it cannot be read."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return read()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a whole Parquet file ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    """Of a library's message."""
    return str(error).strip().split("\n")[0]
