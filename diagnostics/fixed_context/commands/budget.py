"""plot_budget_accuracy: a table of runs as a plot and a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..parser import Parser
from ..statistics.budget_plot import budget_rows, plot_budget, read_runs
from ..statistics.tables import write_summary, write_tables
from .cli import run_command


def build_parser() -> Parser:
    parser = Parser(prog="plot_budget_accuracy", description="Gain or accuracy against the exact budget.")
    parser.add_argument("--input", type=Path, required=True, help="CSV, JSONL or Parquet, a row a run")
    parser.add_argument("--output-dir", type=Path, required=True)
    for name, what in (
        ("method", "the method"),
        ("budget", "the exact budget"),
        ("metric", "what is plotted"),
        ("seed", "the seed"),
    ):
        parser.add_argument(f"--{name}-col", metavar="COLUMN", help=f"column of {what}")
    parser.add_argument("--title", default="Gain against the budget")
    return parser


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


def work(arguments: argparse.Namespace) -> list[Path]:
    a = arguments
    runs, used = read_runs(a.input, a.method_col, a.budget_col, a.metric_col, a.seed_col)
    rows = budget_rows(runs)
    paths = write_tables(a.output_dir, "budget_accuracy", rows, f"{a.title} ({len(runs)} runs)")
    paths += plot_budget(runs, rows, used, a.title, a.output_dir)
    return [*paths, write_summary(a.output_dir / "summary.json", {"columns": used, "runs": len(runs), "budgets": rows})]
