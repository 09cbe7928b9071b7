"""Finished shards to the metrics file: normalised over all of them, joined to a baseline, written a few at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather
from ta_opd.files import atomic_path

from .baseline import append_baseline
from .files import read_parquet
from .normalise import file_axes
from .plan import Plan
from .schema import AXES, METADATA_KEY, measured, metrics_schema, parquet_settings

ROW_GROUP = 16_384


def assemble(plan: Plan, parts: list[Path]) -> None:
    """Write plan.settings.output from the shards' files, atomically."""
    settings = plan.settings
    axes = _axes(parts)
    schema = metrics_schema(settings.topk, settings.extra_topk, plan.baseline and plan.baseline[1])
    described = {METADATA_KEY: json.dumps(plan.metadata, sort_keys=True, allow_nan=False).encode()}
    baseline = None
    if plan.baseline is not None:
        rows, found = plan.baseline
        baseline = read_parquet(settings.baseline_metrics, measured(found)).take(pa.array(rows))
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_path(settings.output) as temporary,
        pq.ParquetWriter(temporary, schema.with_metadata(described), **parquet_settings(schema)) as writer,
    ):
        start = 0
        for group in _groups(parts):
            rows = slice(start, start + len(group))
            for name, kind in AXES:
                group = group.append_column(name, _column(axes[name][rows], kind))
            if baseline is not None:
                group = append_baseline(group, baseline.slice(start, len(group)))
            writer.write_table(group.select(schema.names).cast(schema), row_group_size=len(group))
            start = rows.stop


def _axes(parts: list[Path]) -> dict[str, np.ndarray]:
    entropy, disagreement, exact, bound, valid = map(np.concatenate, zip(*map(_read_for_axes, parts), strict=True))
    return file_axes(entropy, disagreement, np.where(np.isnan(exact), bound, exact), valid != 0)


def _read_for_axes(part: Path) -> list[np.ndarray]:
    """Copies, so that no more than one shard's file is in memory."""
    names = ["Hs", "KLf_union", "Cmass_exact", "Cmass_topk", "loss_mask"]
    table = feather.read_table(part, columns=names)
    return [table[name].to_numpy().copy() for name in names]


def _groups(parts: list[Path]) -> Iterator[pa.Table]:
    """Consecutive shards together, ROW_GROUP rows or more."""
    held: list[pa.Table] = []
    for path in parts:
        held.append(feather.read_table(path, memory_map=False))
        if sum(map(len, held)) >= ROW_GROUP:
            yield pa.concat_tables(held).replace_schema_metadata(None)
            held = []
    if held:
        yield pa.concat_tables(held).replace_schema_metadata(None)


def _column(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    if values.dtype == object:
        return pa.array(values, kind)
    return pa.array(values, kind, mask=np.isnan(values))
