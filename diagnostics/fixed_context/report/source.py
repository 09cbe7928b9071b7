"""One gain file as the report reads it: every token before and after training, and who the models were."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ..baseline import TOKEN, check_comparable, match_rows, with_baseline
from ..schema import read_metadata, read_metrics
from ..statistics.gain import GainTable, gain_table
from ..statistics.settings import Settings


@dataclass(frozen=True)
class Source:
    """frame: the tokens, context by context in the order of the file, with base_* and G_* columns; base_student_top_*
    too where the file from before training was given. table: those of them that count, in frame's order."""

    path: Path
    metadata: dict[str, Any]
    frame: pl.DataFrame
    table: GainTable
    settings: Settings


def read_source(
    input_path: Path | None, before: Path | None, after: Path | None, settings: Settings, name: str | None = None
) -> Source:
    """--input alone, --before and --after, or --input and --before, whose top tokens are then shown. Raises ValueError,
    naming the file, where one cannot be read, has no gain, or two do not fit."""
    if (input_path is None) == (after is None) or (input_path is None and before is None):
        raise ValueError("give --input FILE, or both --before FILE and --after FILE")
    path = input_path or after
    metadata, frame = read_metadata(path), read_metrics(path)
    if before is not None:
        check_comparable(metadata, read_metadata(before), before, "--before")
        base = read_metrics(before)
        if input_path is not None:
            _check_baseline(metadata, read_metadata(before), before)
        else:
            frame = pl.from_arrow(with_baseline(frame.to_arrow(), base.to_arrow()))
        frame = _with_lists(frame, base)
    frame, topk = _in_order(frame), int(metadata.get("topk", 0))
    table = gain_table(frame, topk, settings=settings, other=["KLr"], name=name or path.stem, path=str(path))
    return Source(path, metadata, frame, table, settings)


def _check_baseline(metadata: dict[str, Any], told: dict[str, Any], before: Path) -> None:
    """Raises ValueError where the gains were taken from another student than the file from before training is of."""
    ours, theirs = metadata.get("baseline", {}).get("student_fingerprint"), told.get("student_fingerprint")
    if None not in (ours, theirs) and ours != theirs:
        raise ValueError(f"--before {before}: its student is {theirs}, the gains are from a baseline of {ours}")


def _with_lists(frame: pl.DataFrame, base: pl.DataFrame) -> pl.DataFrame:
    if not {"student_top_ids", "student_top_logps"} <= set(base.columns):
        return frame
    rows = match_rows(frame.select(TOKEN), base.select(TOKEN))
    lists = base[rows].select(pl.col("student_top_ids", "student_top_logps").name.prefix("base_"))
    return pl.concat([frame, lists], how="horizontal")


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Context by context, as they first come, tokens by position."""
    place = frame.select("context_id").unique(maintain_order=True).with_row_index("context_place")
    joined = frame.join(place, on="context_id", how="left", maintain_order="left")
    return joined.sort("context_place", "tok_pos").drop("context_place")
