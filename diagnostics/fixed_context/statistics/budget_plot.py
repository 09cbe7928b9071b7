"""Gain (or accuracy) against the exact budget, a line a method, every seed shown, intervals over seeds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import stdtrit

from ..schema import read_any
from .tables import Row

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's, told apart with any colour vision."""
MARKERS = "osD^vP*Xhd"
COLUMNS = {
    "method": ("method",),
    "budget": ("budget", "ratio", "exact_ratio"),
    "metric": ("gain", "accuracy"),
    "seed": ("seed",),
}
"""What a flag left out stands for: the first of these that the file has."""


def read_runs(
    path: Path, method: str | None = None, budget: str | None = None, metric: str | None = None, seed: str | None = None
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Rows method, budget, metric, seed of a CSV, JSONL or Parquet file, and the columns they came from.

    A file without a seed column is one seed. Raises ValueError, naming them, where columns are missing, a number is not
    one, or (method, budget, seed) comes twice.
    """
    frame = pl.from_arrow(read_any(path))
    used, missing = {}, []
    for name, given in (("method", method), ("budget", budget), ("metric", metric), ("seed", seed)):
        candidates = (given,) if given else COLUMNS[name]
        found = next((c for c in candidates if c in frame.columns), None)
        if found is not None:
            used[name] = found
        elif name != "seed" or given:
            missing.append(f"--{name}-col {' or '.join(candidates)}")
    if missing:
        raise ValueError(f"{path}: no column for {', '.join(missing)}; it has {', '.join(frame.columns)}")
    runs = frame.select(**{name: pl.col(column) for name, column in used.items()})
    if "seed" not in used:
        runs = runs.with_columns(seed=pl.lit(0))
    if not len(runs):
        raise ValueError(f"{path}: no rows")
    for name in ("budget", "metric"):
        values = runs[name].cast(pl.Float64, strict=False)
        if bad := int((values.is_null() | ~values.is_finite().fill_null(False)).sum()):
            raise ValueError(f"{path}: {bad} of {len(runs)} rows have no number in {used[name]}")
        runs = runs.with_columns(values.alias(name))
    key = ["method", "budget", "seed"]
    if (twice := runs.select(key).is_duplicated()).any():
        where = ", ".join(map(str, runs.select(key).filter(twice).row(0)))
        raise ValueError(f"{path}: more than one row of (method, budget, seed) = ({where})")
    return runs, used


def budget_rows(runs: pl.DataFrame) -> list[Row]:
    """A row a (method, budget): mean over seeds, 95% interval (t over seeds; None for one seed), seeds, least, most."""
    rows = []
    for (method, budget), part in sorted(
        runs.group_by("method", "budget"), key=lambda item: (str(item[0][0]), item[0][1])
    ):
        values = part["metric"].to_numpy()
        half = None
        if len(values) > 1:
            half = float(stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values)))
        mean = float(values.mean())
        rows.append(
            {
                "method": str(method),
                "budget": float(budget),
                "mean": mean,
                "low": None if half is None else mean - half,
                "high": None if half is None else mean + half,
                "least": float(values.min()),
                "most": float(values.max()),
                "seeds": len(values),
                "note": "one seed: no interval" if half is None else "",
            }
        )
    return rows


def plot_budget(runs: pl.DataFrame, rows: list[Row], used: dict[str, str], title: str, directory: Path) -> list[Path]:
    """budget_accuracy.png and .pdf: a line of means, bars for intervals, a dot a seed; n in the legend."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    budgets = sorted(set(runs["budget"].to_list()))
    for i, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        mine = [row for row in rows if row["method"] == method]
        color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
        x, y = [row["budget"] for row in mine], [row["mean"] for row in mine]
        seeds = sorted({row["seeds"] for row in mine})
        count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]}-{seeds[-1]}"
        axes.plot(x, y, color=color, marker=marker, label=f"{method} (n = {count} seed{'s' * (seeds[-1] > 1)})")
        bars = [(row["budget"], row["low"], row["high"]) for row in mine if row["low"] is not None]
        axes.vlines([b[0] for b in bars], [b[1] for b in bars], [b[2] for b in bars], color=color, alpha=0.6)
        dots = runs.filter(pl.col("method").cast(pl.String) == method)
        axes.scatter(dots["budget"], dots["metric"], color=color, marker=".", s=14, alpha=0.6)
    if min(budgets) > 0 and max(budgets) / min(budgets) > 20:
        axes.set_xscale("log")
    axes.set_xlabel(used["budget"])
    axes.set_ylabel(used["metric"])
    if np.min(runs["metric"].to_numpy()) < 0 < np.max(runs["metric"].to_numpy()):
        axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set_title(f"{title} ({len(runs)} runs; bars: 95% over seeds; dots: seeds)", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    paths = [directory / f"budget_accuracy.{suffix}" for suffix in ("png", "pdf")]
    for path in paths:
        figure.savefig(path, dpi=150)
    plt.close(figure)
    return paths
