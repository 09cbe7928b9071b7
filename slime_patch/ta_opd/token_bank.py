"""Writers of the per-token table: Parquet (zstd), CSV or JSONL, a summary line per rollout, a manifest.

A directory holds rollout_%06d.<format>, summary.csv and config.json, each written atomically. A number that is not
known is null (an empty field in CSV), never zero.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .files import atomic_path, write_json
from .options import Options
from .support import NO_TOKEN
from .token_columns import QUADRANTS, SCHEMA_VERSION, Columns

SUMMARY_COLUMNS = (
    "rollout_id",
    "num_tokens",
    "num_valid_tokens",
    "num_kept_tokens",
    "keep_ratio",
    "mean_H_norm",
    "mean_D_norm",
    "mean_C_norm",
    "mean_tip_score",
    "mean_ca_softor_score",
    "mean_reach_t1",
    "q3_tokens",
    "budget_method",
    "budget_ratio",
)


def write_rollout(directory: str | Path, rollout_id: int, columns: Columns, options: Options) -> Path:
    """Write one rollout's table and bring summary.csv and config.json up to date; every file atomically.

    A rollout written before under the same id is replaced. Raises ValueError where the directory's manifest is of
    another schema version or format.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    manifest_path = directory / "config.json"
    manifest = {"schema_version": SCHEMA_VERSION, "format": options.token_bank_format, "rollouts": {}}
    if manifest_path.exists():
        found = json.loads(manifest_path.read_text(encoding="utf-8"))
        for key in ("schema_version", "format"):
            if found[key] != manifest[key]:
                raise ValueError(f"{manifest_path} has {key} {found[key]!r}; this run writes {manifest[key]!r}")
        manifest["rollouts"] = found["rollouts"]
    path = directory / f"rollout_{rollout_id:06d}.{options.token_bank_format}"
    with atomic_path(path) as temporary:
        {"parquet": _write_parquet, "csv": _write_csv, "jsonl": _write_jsonl}[options.token_bank_format](
            temporary, columns
        )
    _update_summary(directory / "summary.csv", rollout_id, columns)
    manifest["rollouts"][path.name] = len(columns["token_id"])
    write_json(manifest_path, manifest | {"columns": list(columns), "options": asdict(options)})
    return path


def _write_parquet(path: Path, columns: Columns) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({name: _arrow(pa, values) for name, values in columns.items()}), path, compression="zstd")


def _arrow(pa, values):
    if isinstance(values, list):
        return pa.array(values, pa.string()).dictionary_encode()
    flat = pa.array(np.ma.getdata(values).ravel(), mask=_unknown(values).ravel())
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _unknown(values: np.ndarray) -> np.ndarray:
    """Where a number is not known: masked, not finite, or an empty entry of a raw list."""
    if values.dtype.kind == "f":
        return ~np.isfinite(values)
    return values == NO_TOKEN if values.ndim == 2 else np.ma.getmaskarray(values)


def _rows(columns: Columns):
    """Rows of plain Python values; None for what is not known."""

    def plain(values):
        if isinstance(values, list):
            return values
        return np.where(_unknown(values), None, np.ma.getdata(values).astype(object)).tolist()

    return zip(*(plain(values) for values in columns.values()), strict=True)


def _write_csv(path: Path, columns: Columns) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        for row in _rows(columns):
            writer.writerow(json.dumps(value) if isinstance(value, list) else value for value in row)


def _write_jsonl(path: Path, columns: Columns) -> None:
    with path.open("w", encoding="utf-8") as handle:
        for row in _rows(columns):
            handle.write(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n")


def _update_summary(path: Path, rollout_id: int, columns: Columns) -> None:
    rows = {}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as handle:
            rows = {int(row["rollout_id"]): row for row in csv.DictReader(handle)}
    rows[rollout_id] = summary_row(rollout_id, columns)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, SUMMARY_COLUMNS)
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))


def summary_row(rollout_id: int, columns: Columns) -> dict[str, Any]:
    """One line of summary.csv; means over the valid tokens that have the number, empty where none has."""
    valid = columns["loss_mask_original"] != 0
    kept = int(columns["budget_keep"].sum())

    def mean(name: str):
        values = np.ma.filled(columns[name].astype(np.float64), np.nan)[valid]
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else ""

    return {
        "rollout_id": rollout_id,
        "num_tokens": len(valid),
        "num_valid_tokens": int(valid.sum()),
        "num_kept_tokens": kept,
        "keep_ratio": kept / int(valid.sum()) if valid.any() else "",
        **{f"mean_{name}": mean(name) for name in ("H_norm", "D_norm", "C_norm", "tip_score", "ca_softor_score")},
        "mean_reach_t1": mean("reach_t1"),
        "q3_tokens": columns["quadrant"].count(QUADRANTS[3]),
        "budget_method": columns["budget_method"][0] if len(valid) else "",
        "budget_ratio": float(columns["budget_ratio"][0]) if len(valid) else "",
    }
