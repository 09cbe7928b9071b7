"""A metrics file beside the one from before training: joined token by token, and the gain between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from .schema import GAINS, KEY, SCHEMA_VERSION, measured

SAME = ("teacher_fingerprint", "dtype", "vocabulary", "topk")
"""What both files' metadata must agree on for a gain to mean something."""
TOKEN = (*KEY, "token_id", "loss_mask")
"""What a token is, and whether it counts: the same in both files."""


def with_baseline(after: pa.Table, before: pa.Table) -> pa.Table:
    """after's columns, then base_NAME of before's measured ones, then the gains of schema.GAINS (before - after).

    Joined by (context_id, tok_pos), in after's order. Raises ValueError where a token of one is not in the other, comes
    twice, is another token there, or counts in one file alone.
    """
    for name, table in (("after", after), ("before", before)):
        if missing := [column for column in TOKEN if column not in table.schema.names]:
            raise ValueError(f"the metrics {name} training lack {', '.join(missing)}")
    match = match_rows(pl.from_arrow(after.select(TOKEN)), pl.from_arrow(before.select(TOKEN)))
    return append_baseline(after, before.take(pa.array(match)))


def append_baseline(after: pa.Table, aligned: pa.Table) -> pa.Table:
    """As with_baseline, of a baseline whose rows are already the same tokens in the same order."""
    columns = {name: after[name] for name in after.schema.names}
    columns |= {f"base_{name}": aligned[name] for name in measured(aligned.schema)}
    for gain, name in GAINS.items():
        if name in after.schema.names and name in aligned.schema.names:
            columns[gain] = pc.subtract(aligned[name], after[name])
    return pa.table(columns)


def match_rows(after: pl.DataFrame, before: pl.DataFrame, other: str = "the baseline") -> pl.Series:
    """The row of `before` with the token of each row of `after`, by KEY. Of the rest of TOKEN what both have is
    compared. other: what `before` is called. Raises ValueError unless they hold the same tokens, each once."""
    key = list(KEY)
    for name, frame in (("after training", after), (f"of {other}", before)):
        if frame.select(key).is_duplicated().any():
            raise ValueError(f"the metrics {name} hold a ({', '.join(key)}) more than once")
    after, before = (frame.with_columns(pl.col("tok_pos").cast(pl.Int64)) for frame in (after, before))
    if after["context_id"].dtype != before["context_id"].dtype:
        raise ValueError(f"context_id is {before['context_id'].dtype} in {other}, {after['context_id'].dtype} here")
    facts = [name for name in TOKEN if name not in KEY and name in after.columns and name in before.columns]
    numbered = before.select(*key, *(pl.col(name).alias(f"other_{name}") for name in facts)).with_row_index("row")
    joined = after.join(numbered, on=key, how="left", maintain_order="left", validate="1:1")
    _refuse(joined.filter(pl.col("row").is_null()), len(after), f"are not in {other}")
    _refuse(before.join(after, on=key, how="anti"), len(before), f"of {other} are not here")
    differ = {"token_id": "are another token", "loss_mask": "have another loss_mask"}
    for name in facts:
        different = joined.filter(pl.col(name).ne_missing(pl.col(f"other_{name}")))
        _refuse(different, len(after), f"{differ[name]} in {other}")
    return joined["row"]


def check_comparable(
    after: dict[str, Any], before: dict[str, Any], path: str | Path, flag: str = "--baseline-metrics"
) -> None:
    """Raises ValueError, naming the flag, where two files' metadata tell of another teacher, type, vocabulary or K."""
    if before.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"{flag} {path}: no metrics file of schema version {SCHEMA_VERSION}")
    for name in SAME:
        if after.get(name) != before.get(name):
            raise ValueError(f"{flag} {path}: {name} {before.get(name)!r} there, {after.get(name)!r} here")


def _refuse(rows: pl.DataFrame, count: int, what: str) -> None:
    if len(rows):
        first = ", ".join(map(str, rows.select(KEY).row(0)))
        raise ValueError(f"{len(rows):,} of {count:,} tokens {what}, first ({first})")
