"""The files of the fixed-context diagnostics: their columns, types and version, and the readers that say what is wrong.

A context bank has a row for each context (prompt and response of the student); a metrics file has one for each response
token of it, keyed by (context_id, tok_pos). Floats are float32, in nats where they are entropies, divergences or
log-probs. A number that is not known is null, never zero.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from .files import first_line, of_parquet, parsed_json, read_parquet
from .frame_columns import labels

SCHEMA_VERSION = 1
METADATA_KEY = b"ta_opd"
KEY = ("context_id", "tok_pos")
QUADRANTS = ("Q1_highH_highD", "Q2_highH_lowD", "Q3_lowH_highD", "Q4_lowH_lowD")

CONTEXT_SCHEMA = pa.schema(
    [
        ("schema_version", pa.int32()),
        ("context_id", pa.string()),  # 16 hex digits of the sha256 of prompt and response tokens
        ("prompt_id", pa.string()),  # the same of the prompt tokens: the cluster of every bootstrap
        ("sample_index", pa.int64()),
        ("group_index", pa.int64()),
        ("prompt_tokens", pa.list_(pa.int32())),
        ("response_tokens", pa.list_(pa.int32())),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("response_length", pa.int32()),
        ("truncated", pa.int8()),
        ("source", pa.string()),
        ("loss_mask", pa.list_(pa.int8())),
    ]
)

IDENTITY = (
    ("schema_version", pa.int32()),
    ("context_id", pa.string()),
    ("prompt_id", pa.string()),
    ("sample_index", pa.int64()),
    ("group_index", pa.int64()),
    ("tok_pos", pa.int32()),  # 0-based in the response
    ("pos_norm", pa.float32()),  # tok_pos / (resp_len - 1), 0 for a response of one token
    ("resp_len", pa.int32()),
    ("token_id", pa.int32()),
    ("loss_mask", pa.int8()),
)
"""What a token is, whatever the models."""

DENSE = (
    ("Hs", pa.float32()),  # entropy of the student, full vocabulary
    ("Ht", pa.float32()),  # entropy of the teacher
    ("KLf", pa.float32()),  # KL(T || S), full vocabulary: the one that gains are measured in
    ("KLr", pa.float32()),  # KL(S || T)
    ("JSD", pa.float32()),  # (KL(T || M) + KL(S || M)) / 2, M = (T + S) / 2
    ("student_logp_sampled", pa.float32()),
    ("teacher_logp_sampled", pa.float32()),
    ("target_student_rank", pa.int32()),  # tokens that the student finds likelier than the sampled one: 0 is its first
    ("target_teacher_rank", pa.int32()),
)
"""What the whole distributions say. A teacher behind a server leaves Ht, KLf, KLr and JSD null, and its rank where the
sampled token is not in its list."""

BY_K = (
    ("student_topk_mass", pa.float32()),
    ("teacher_topk_mass", pa.float32()),
    ("KLf_union", pa.float32()),  # D: KL(T || S), both renormalised on the union of the two top-K lists
    ("KLr_union", pa.float32()),
    ("Cmass_exact", pa.float32()),  # C: teacher mass on the student's top K
    (
        "Cmass_topk",
        pa.float32(),
    ),  # teacher mass on what both lists share, the lower bound of C that a server's list gives
    ("Coverlap", pa.float32()),
    ("Cjaccard", pa.float32()),
    ("CBC", pa.float32()),
    ("reach_t1", pa.int8()),  # the teacher's first choice is in the student's top K
    ("overlap_mass", pa.float32()),  # student mass on what both lists share
    ("overlap_advantage", pa.float32()),  # mean over shared tokens of p_S (log p_T - log p_S), renormalised on them
)
"""What depends on K. `--extra-topk 8,32` writes these again as NAME_k8 and NAME_k32."""

CPREFIX = ("Cprefix_ema", pa.float32())

AXES = (
    ("H_norm", pa.float32()),
    ("D_norm", pa.float32()),
    ("C_norm", pa.float32()),
    ("Dlearn", pa.float32()),  # D_norm * C_norm
    ("Dincompat", pa.float32()),  # D_norm * (1 - C_norm)
    ("tip_score", pa.float32()),
    ("ca_softor_score", pa.float32()),
    ("quadrant", pa.string()),  # one of QUADRANTS
)
"""Normalised over the valid tokens (loss_mask 1) of the whole file; null elsewhere."""

GAINS = {"G_KLf": "KLf", "G_KLr": "KLr", "G_JSD": "JSD", "G_Hs": "Hs"}
"""Gain column -> the column whose fall it is: base_KLf - KLf."""

_NOT_MEASURED = {name for name, _ in IDENTITY} | {"quadrant"}


def lists(k: int) -> tuple[tuple[str, pa.DataType], ...]:
    """Both models' top-k lists, best first."""
    ids, logps = pa.list_(pa.int32(), k), pa.list_(pa.float32(), k)
    return (
        ("student_top_ids", ids),
        ("student_top_logps", logps),
        ("teacher_top_ids", ids),
        ("teacher_top_logps", logps),
    )


def score_schema(topk: int, extra_topk: Sequence[int] = ()) -> pa.Schema:
    """Columns that are known context by context: all but what is normalised over the file or joined to it."""
    extra = [(f"{name}_k{k}", kind) for k in extra_topk for name, kind in BY_K]
    return pa.schema([*IDENTITY, *DENSE, *BY_K, CPREFIX, *lists(topk), *extra])


def measured(schema: pa.Schema) -> list[str]:
    """The numeric columns that the models have a say in, those that a baseline brings as base_NAME."""
    return [
        field.name
        for field in schema
        if (pa.types.is_floating(field.type) or pa.types.is_integer(field.type))
        and field.name not in _NOT_MEASURED
        and not field.name.startswith(("base_", "G_"))
    ]


def metrics_schema(topk: int, extra_topk: Sequence[int] = (), baseline: pa.Schema | None = None) -> pa.Schema:
    """Columns of a metrics file, in order. baseline: the schema of the --baseline-metrics file, if there is one."""
    own = pa.schema([*score_schema(topk, extra_topk), *AXES])
    if baseline is None:
        return own
    base = [(f"base_{name}", baseline.field(name).type) for name in measured(baseline)]
    gains = [(gain, pa.float32()) for gain, name in GAINS.items() if name in own.names and name in baseline.names]
    return pa.schema([*own, *base, *gains])


def read_context_bank(path: str | Path) -> pl.DataFrame:
    """A context bank, .parquet, .jsonl or .csv, with the types of CONTEXT_SCHEMA.

    Raises ValueError, naming the file, where it is missing, cut off, of another version, without a needed column, or
    where a context id comes twice.
    """
    path = Path(path)
    table = _read(path, CONTEXT_SCHEMA)
    _check_version(path, table)
    _check_columns(path, table.schema, CONTEXT_SCHEMA.names)
    bank = pl.from_arrow(_cast(path, table.select(CONTEXT_SCHEMA.names), CONTEXT_SCHEMA))
    if not len(bank):
        raise ValueError(f"{path}: no contexts")
    for name in ("context_id", "prompt_id"):
        labels(bank, name, str(path))
    _check_unique(path, bank, ["context_id"])
    return bank


def read_metrics(path: str | Path, needed: Iterable[str] = (), columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A metrics file (.parquet).

    needed: columns that must be there beside the key. columns: those to read, all of them for None; a needed column and
    the key are always read. Raises ValueError, naming the file and every column that is missing, where it is not a
    metrics file of this version, or where (context_id, tok_pos) is empty or comes twice.
    """
    path = Path(path)
    there = metrics_file_schema(path).names
    wanted = list(dict.fromkeys(["schema_version", *KEY, *needed, *(there if columns is None else columns)]))
    table = read_parquet(path, [name for name in wanted if name in there])
    _check_version(path, table)
    _check_columns(path, table.schema, wanted)
    frame = pl.from_arrow(table)
    for name in KEY:
        labels(frame, name, str(path))
    _check_unique(path, frame, list(KEY))
    return frame


def metrics_file_schema(path: str | Path) -> pa.Schema:
    """The columns of a Parquet file and its metadata, without its rows. Raises ValueError where it cannot be read."""
    path = Path(path)
    if path.suffix != ".parquet":
        raise ValueError(f"{path}: a metrics file ends in .parquet")
    return of_parquet(path, lambda: pq.read_schema(path))


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What a metrics file says of how it was made; empty where it says nothing."""
    found = (metrics_file_schema(path).metadata or {}).get(METADATA_KEY)
    return {} if found is None else parsed_json(found, path)


def write_parquet(path: Path, table: pa.Table, metadata: dict[str, Any]) -> None:
    """zstd, with `metadata` as JSON under the key "ta_opd"."""
    described = {METADATA_KEY: json.dumps(metadata, sort_keys=True, allow_nan=False).encode()}
    pq.write_table(table.replace_schema_metadata(described), path, **parquet_settings(table.schema))


def parquet_settings(schema: pa.Schema) -> dict[str, Any]:
    """zstd, with a checksum for each page: flipped bits of floats would be numbers too. Floats are split into byte
    streams: a dictionary of them costs more time and more room."""
    dictionaries, streams = [], {}
    for field in schema:
        listed = pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
        kind = field.type.value_type if listed else field.type
        if pa.types.is_floating(kind):
            streams[f"{field.name}.list.element" if listed else field.name] = "BYTE_STREAM_SPLIT"
        elif not listed:
            dictionaries.append(field.name)
    return {
        "compression": "zstd", "use_dictionary": dictionaries, "column_encoding": streams, "write_page_checksum": True,
    }  # fmt: skip


def read_any(path: str | Path, schema: pa.Schema | None = None) -> pa.Table:
    """A table by its suffix: .parquet, .jsonl or .csv (lists are JSON there). schema: types of columns where they are
    known. Raises ValueError, naming the file, where it cannot be read."""
    return _read(Path(path), schema or pa.schema([]))


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    if path.suffix == ".parquet":
        return read_parquet(path)
    if path.suffix not in (".jsonl", ".csv"):
        raise ValueError(f"{path}: the name must end in .parquet, .jsonl or .csv")
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        if path.suffix == ".jsonl":
            return pa.json.read_json(path, parse_options=pa.json.ParseOptions(explicit_schema=schema))
        text = {field.name: pa.string() if pa.types.is_nested(field.type) else field.type for field in schema}
        options = pa.csv.ConvertOptions(column_types=text, strings_can_be_null=True)
        parsing = pa.csv.ParseOptions(newlines_in_values=True)
        return pa.csv.read_csv(path, parse_options=parsing, convert_options=options)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: cannot be read as {path.suffix[1:]} ({first_line(error)})") from error


def _check_columns(path: Path, schema: pa.Schema, needed: Iterable[str]) -> None:
    missing = [name for name in needed if name not in schema.names]
    if missing:
        raise ValueError(f"{path}: {_plural(len(missing), 'column')} missing: {', '.join(missing)}")


def _check_version(path: Path, table: pa.Table) -> None:
    if "schema_version" not in table.schema.names:
        raise ValueError(f"{path}: no column schema_version; this software reads version {SCHEMA_VERSION}")
    found = sorted({value.as_py() for value in table["schema_version"].unique()}, key=str)
    if found not in ([], [SCHEMA_VERSION]):
        shown = ", ".join(map(str, found))
        raise ValueError(f"{path}: schema version {shown}; this software reads version {SCHEMA_VERSION}")


def _check_unique(path: Path, frame: pl.DataFrame, key: list[str]) -> None:
    twice = frame.select(key).is_duplicated()
    if twice.any():
        first = frame.select(key).filter(twice).row(0)
        raise ValueError(
            f"{path}: {int(twice.sum()):,} rows share ({', '.join(key)}) with another, first "
            f"({', '.join(map(str, first))})"
        )


def _cast(path: Path, table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        column = table[field.name]
        try:
            if pa.types.is_nested(field.type) and pa.types.is_string(column.type):
                values = [None if text is None else json.loads(text) for text in column.to_pylist()]
                column = pa.chunked_array([pa.array(values, field.type)])
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: column {field.name} is not {field.type} ({first_line(error)})") from error
    return pa.table(columns, schema=schema)


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"
