"""The tables that the analysis commands wrote, read back: file stem -> rows; `note` says why a row has no number."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..statistics.tables import Row

MAKERS = {
    "gain_summary": "analyze_fixed_context_gain",
    "regression_summary": "analyze_fixed_context_gain",
    "q3_bootstrap_matching_summary": "analyze_fixed_context_gain",
    "matching_balance": "analyze_fixed_context_gain",
    "bucket_summary": "analyze_fixed_context_gain",
    "regression_to_mean": "analyze_fixed_context_gain",
    "placebo_summary": "analyze_fixed_context_gain",
    "position_measures": "analyze_fixed_context_gain",
    "topn": "matched_fixed_context_topn",
    "topn_differences": "matched_fixed_context_topn",
    "support_definitions": "support_definition_robustness",
    "support_agreement": "support_definition_robustness",
    "opd_measures_training": "opd_measures",
    "opd_measures_positions": "opd_measures",
    "replay_selectors": "replay_masks",
    "replay_jaccard": "replay_masks",
    "replay_positions": "replay_masks",
    "replay_rollouts": "replay_masks",
    "replay_check": "replay_masks",
    "within_q3": "analyze_within_q3_teachability",
    "within_q3_quarters": "analyze_within_q3_teachability",
    "q3_reachability": "q3_reachability",
    "budget_accuracy": "plot_budget_accuracy",
}
"""File stem of each table that the report shows -> the command that writes it."""

_TEXT = (
    "note", "left_out", "a", "b", "dataset", "selector", "checkpoint", "method", "measure", "group", "quantity",
    "entry", "run",
)  # fmt: skip


class Tables(dict[str, list[Row]]):
    """Rows by file stem. `summaries`: the summary.json of each directory."""

    def __init__(self) -> None:
        super().__init__()
        self.summaries: dict[Path, dict[str, Any]] = {}

    def rows(self, stem: str, **wanted: Any) -> list[Row]:
        """The rows of a table whose columns have the values asked for; none where the table is not there."""
        return [row for row in self.get(stem, []) if all(row.get(name) == value for name, value in wanted.items())]

    def note(self, stem: str) -> str:
        """Why a table has no row."""
        return "the table has no row" if stem in self else f"not given: {MAKERS[stem]} writes {stem}.csv"


def read_tables(directories: Iterable[Path], dataset: str | None = None) -> Tables:
    """Every known table of the directories.

    dataset: whose rows to keep where a table holds several. Raises ValueError where a directory holds none, a table
    comes twice or is no CSV of such rows, or the dataset is not there or not told.
    """
    tables = Tables()
    for directory in directories:
        found = [stem for stem in MAKERS if (directory / f"{stem}.csv").is_file()]
        if not found:
            there = "no such directory" if not directory.is_dir() else "no table of an analysis command there"
            raise ValueError(f"--analysis {directory}: {there}")
        for stem in found:
            if stem in tables:
                raise ValueError(f"--analysis {directory}: {stem}.csv is in another of the directories too")
            tables[stem] = _one_dataset(_read(directory / f"{stem}.csv"), dataset, directory / f"{stem}.csv")
        if (directory / "summary.json").is_file():
            tables.summaries[directory] = _summary(directory / "summary.json")
    return tables


def _read(path: Path) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            lines = list(csv.DictReader(handle, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as CSV ({error})") from error
    if any(None in line or None in line.values() for line in lines):
        raise ValueError(f"{path}: a line has more or fewer cells than the first")
    return [{name: _value(name, text) for name, text in line.items()} for line in lines]


def _value(name: str, text: str) -> Any:
    if name in _TEXT or text in ("True", "False"):
        return text if name in _TEXT else text == "True"
    if text == "":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _one_dataset(rows: list[Row], dataset: str | None, path: Path) -> list[Row]:
    names = list(dict.fromkeys(row["dataset"] for row in rows if "dataset" in row))
    if not names:
        return rows
    if dataset is None and len(names) > 1:
        raise ValueError(f"{path}: holds {', '.join(names)}; say which with --dataset NAME")
    wanted = names[0] if dataset is None else dataset
    if wanted not in names:
        raise ValueError(f"--dataset {wanted}: {path} has {', '.join(names)}")
    return [row for row in rows if row["dataset"] == wanted]


def _summary(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no JSON ({error})") from error


def check_same_tokens(tables: Tables, gain: NDArray[np.float64], prompts: int) -> None:
    """Raises ValueError where the gain analysis was made of other tokens than gain [N], or of another student: those of
    one run have the same tokens, and other gains."""
    for row in tables.rows("gain_summary", gain="absolute"):
        if (row["tokens"], row["prompts"]) != (len(gain), prompts):
            raise ValueError(
                f"--analysis: gain_summary.csv is of {row['tokens']:,} tokens of {row['prompts']:,} prompts, the "
                f"metrics have {len(gain):,} of {prompts:,}: not the same file"
            )
        if not np.isclose(row["mean"], gain.mean(), rtol=1e-6, atol=1e-9):
            raise ValueError(
                f"--analysis: gain_summary.csv has a mean gain of {row['mean']:.6g}, the metrics have "
                f"{gain.mean():.6g}: another student's analysis"
            )


def number(row: Row, *names: str) -> list[float]:
    """The numbers of a row, NaN where there is none."""
    return [float("nan") if row.get(name) is None else float(row[name]) for name in names]


def first(rows: Sequence[Row]) -> Row:
    """The first row, or an empty one."""
    return rows[0] if rows else {}
