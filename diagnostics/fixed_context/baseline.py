"""A metrics file beside the one from before training: joined token by token, and the gain between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from .schema import GAINS, KEY, SCHEMA_VERSION, measured

SAME = ("teacher_fingerprint", "dtype", "vocabulary")
"""What both files' metadata must agree on for a gain to mean something."""


def with_baseline(after: pa.Table, before: pa.Table) -> pa.Table:
    """after's columns, then base_NAME of before's measured ones, then the gains of schema.GAINS (before - after).

    Joined by (context_id, tok_pos), in after's order. Raises ValueError where a token of one is not in the other, comes
    twice, or is another token there.
    """
    match = match_rows(
        pl.from_arrow(after.select([*KEY, "token_id"])), pl.from_arrow(before.select([*KEY, "token_id"]))
    )
    return append_baseline(after, before.take(pa.array(match)))


def append_baseline(after: pa.Table, aligned: pa.Table) -> pa.Table:
    """As with_baseline, of a baseline whose rows are already the same tokens in the same order."""
    columns = {name: after[name] for name in after.schema.names}
    columns |= {f"base_{name}": aligned[name] for name in measured(aligned.schema)}
    for gain, name in GAINS.items():
        if name in after.schema.names and name in aligned.schema.names:
            columns[gain] = pc.subtract(aligned[name], after[name])
    return pa.table(columns)


def match_rows(after: pl.DataFrame, before: pl.DataFrame) -> pl.Series:
    """The row of `before` with the token of each row of `after`; both have KEY and token_id. Raises ValueError unless
    they hold the same tokens, each once."""
    key = list(KEY)
    for name, frame in (("after", after), ("before", before)):
        if frame.select(key).is_duplicated().any():
            raise ValueError(f"the metrics {name} training hold a ({', '.join(key)}) more than once")
    numbered = before.with_row_index("row").rename({"token_id": "token_before"})
    joined = after.join(numbered, on=key, how="left", maintain_order="left", validate="1:1")
    _refuse(joined.filter(pl.col("row").is_null()), len(after), "are not in the baseline")
    _refuse(before.join(after, on=key, how="anti"), len(before), "of the baseline are not here")
    other = joined.filter(pl.col("token_id") != pl.col("token_before"))
    _refuse(other, len(after), "are another token in the baseline")
    return joined["row"]


def check_comparable(after: dict[str, Any], before: dict[str, Any], path: str | Path) -> None:
    """Raises ValueError where two files' metadata tell of another teacher, type or vocabulary."""
    if before.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"--baseline-metrics {path}: no metrics file of schema version {SCHEMA_VERSION}")
    for name in SAME:
        if after[name] != before.get(name):
            raise ValueError(f"--baseline-metrics {path}: {name} {before.get(name)!r} there, {after[name]!r} here")


def _refuse(rows: pl.DataFrame, count: int, what: str) -> None:
    if len(rows):
        first = ", ".join(map(str, rows.select(KEY).row(0)))
        raise ValueError(f"{len(rows):,} of {count:,} tokens {what}, first ({first})")
