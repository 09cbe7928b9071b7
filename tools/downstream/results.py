"""From the file that lm_eval writes to rows of one table."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from .benchmarks import Benchmark


@dataclass(frozen=True)
class Row:
    """One metric of one benchmark (part empty) or of one of its subtasks (part: the harness's name).

    value: as the harness defines it, mostly a share in [0, 1]. stderr: None where the harness gives none. n: problems
    asked, of n_all. limit: the cap, None for all.
    """

    task: str
    harness_task: str
    part: str
    metric: str
    filter: str
    value: float
    stderr: float | None
    n: int
    n_all: int
    limit: int | None
    shots: int | None
    task_version: str
    harness: str
    seed: int
    command: str


def results_file(folder: Path) -> Path:
    """The newest results file under the folder. Raises ValueError when the harness has written none."""
    found = sorted(folder.glob("**/results_*.json"), key=lambda path: path.name)
    if not found:
        raise ValueError(f"the harness wrote no results_*.json under {folder}")
    return found[-1]


def read_rows(path: Path, benchmark: Benchmark, harness: str, seed: int, command: str) -> list[Row]:
    """The benchmark's rows first, then those of its subtasks.

    Raises:
        ValueError: a torn file, one without the benchmark, a number that is missing or not finite.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no whole results file: {error}") from error
    task = benchmark.harness_task
    if task not in read.get("results", {}):
        raise ValueError(f"{path} has no results of {task}, only of {', '.join(read.get('results', {})) or 'nothing'}")
    rows = []
    for name in (task, *_leaves(read, task)):
        n, n_all = _counts(read, name, path)
        for metric, filter_, value, stderr in _metrics(read["results"][name], name, path):
            shots = read.get("n-shot", {}).get(name)
            about = (task, "" if name == task else name, metric, filter_, value, stderr, n, n_all, benchmark.limit)
            edition = str(read.get("versions", {}).get(name, ""))
            rows.append(Row(benchmark.name, *about, shots, edition, harness, seed, command))
    return rows


def _leaves(read: dict, name: str) -> list[str]:
    """The tasks of a group, groups of groups resolved; none for a task."""
    leaves = []
    for child in read.get("group_subtasks", {}).get(name, []):
        leaves += _leaves(read, child) or [child]
    return sorted(set(leaves))


def _counts(read: dict, name: str, path: Path) -> tuple[int, int]:
    """Problems asked and problems there are; a group's are its tasks' together."""
    counts = [read.get("n-samples", {}).get(leaf) for leaf in (_leaves(read, name) or [name])]
    if None in counts:
        raise ValueError(f"{path} does not say how many problems of {name} were asked")
    return sum(count["effective"] for count in counts), sum(count["original"] for count in counts)


def _metrics(results: dict, name: str, path: Path) -> list[tuple[str, str, float, float | None]]:
    """Keys are "exact_match,strict-match" and "exact_match_stderr,strict-match"; the rest is text about the task."""
    metrics = []
    for key, value in results.items():
        metric, comma, filter_ = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{path}: {key} of {name} is {value!r}, not a finite number")
        stderr = results.get(f"{metric}_stderr,{filter_}")
        known = isinstance(stderr, int | float) and math.isfinite(stderr)
        metrics.append((metric, filter_, float(value), float(stderr) if known else None))
    if not metrics:
        raise ValueError(f"{path} has no metric of {name}")
    return metrics


def as_json(about: dict, rows: list[Row], failed: list[dict]) -> str:
    return json.dumps(about | {"rows": [asdict(row) for row in rows], "failed": failed}, indent=1) + "\n"


def as_csv(rows: list[Row]) -> str:
    """One line a row; what is not known is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()
