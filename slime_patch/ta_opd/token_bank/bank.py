"""The per-token tables of a run: one file a rollout, a summary line for each, a manifest.

A directory holds rollout_%06d.<format>, summary.csv and config.json, each written atomically. A number that is not
known is null (an empty field in CSV), never zero.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..files import atomic_path, write_json
from ..options import Options
from .columns import SCHEMA_VERSION, Columns
from .formats import write_csv, write_jsonl, write_parquet
from .summary import SUMMARY_COLUMNS, Summary


def write_rollout(directory: str | Path, rollout_id: int, blocks: Iterable[Columns], options: Options) -> Path:
    """Write one rollout's table and bring summary.csv and config.json up to date; every file atomically.

    blocks: the table's rows in order, as token_columns gives them, at least one block; each is written as it comes.
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
    write, summary = {"parquet": write_parquet, "csv": write_csv, "jsonl": write_jsonl}, Summary()
    with atomic_path(path) as temporary:
        write[options.token_bank_format](temporary, summary.watch(blocks))
    _update_summary(directory / "summary.csv", rollout_id, summary.row(rollout_id))
    manifest["rollouts"][path.name] = summary.tokens
    write_json(manifest_path, manifest | {"columns": summary.names, "options": asdict(options)})
    return path


def _update_summary(path: Path, rollout_id: int, line: dict[str, Any]) -> None:
    rows = {}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as handle:
            rows = {int(row["rollout_id"]): row for row in csv.DictReader(handle)}
    rows[rollout_id] = line
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, SUMMARY_COLUMNS)
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))
