"""analyze_within_q3_teachability and q3_reachability."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..parser import Parser
from ..statistics.gain import load_gains
from ..statistics.reachability import COLUMNS, reachability_rows
from ..statistics.tables import write_summary, write_tables
from ..statistics.within_q3 import within_q3_rows
from .cli import add_column_flags, add_setting_flags, columns_of, named_paths, run_command, settings_of
from .gain import add_gain_inputs


def build_within_parser() -> Parser:
    parser = Parser(prog="analyze_within_q3_teachability", description="Support and gain within Q3.")
    parser.add_argument(
        "--input", action="append", required=True, metavar="K:PATH", help="a gain file of that K; repeatable"
    )
    parser.add_argument("--output-dir", type=Path, required=True)
    add_column_flags(parser)
    add_setting_flags(parser)
    return parser


def main_within(argv: list[str] | None = None) -> int:
    return run_command(build_within_parser(), within_work, argv)


def within_work(arguments: argparse.Namespace) -> list[Path]:
    settings, rows, quarters, inputs = settings_of(arguments), [], [], {}
    for k, path in named_paths(arguments.input, "--input", "K"):
        if not k.isdigit():
            raise ValueError(f"--input {k}:{path}: K must be a whole number")
        table = load_gains(path, columns=columns_of(arguments), settings=settings, name=k)
        if table.topk not in (0, int(k)):
            raise ValueError(f"--input {k}:{path}: the file says that its K is {table.topk}")
        more, parts = within_q3_rows(table, settings)
        rows += [row | {"k": int(k)} for row in more]
        quarters += [row | {"k": int(k)} for row in parts]
        inputs[k] = {"path": str(path), "tokens": len(table), "counts": table.counts}
    directory = arguments.output_dir
    paths = write_tables(directory, "within_q3", rows, "Within Q3: support and gain")
    paths += write_tables(directory, "within_q3_quarters", quarters, "Within Q3: gain by quarter of support")
    summary = {"settings": vars(settings), "inputs": inputs, "within_q3": rows}
    return [*paths, write_summary(directory / "summary.json", summary)]


def build_reachability_parser() -> Parser:
    parser = Parser(prog="q3_reachability", description="Is the teacher's first choice within the student's top K?")
    add_gain_inputs(parser)
    parser.add_argument("--output-dir", type=Path, required=True)
    add_column_flags(parser)
    add_setting_flags(parser, "q_low", "q_high", "h_quantile", "d_quantile", "bootstrap", "seed")
    return parser


def main_reachability(argv: list[str] | None = None) -> int:
    return run_command(build_reachability_parser(), reachability_work, argv)


def reachability_work(arguments: argparse.Namespace) -> list[Path]:
    settings = settings_of(arguments)
    other = [*COLUMNS, *(f"after:{name}" for name in COLUMNS)]
    table = load_gains(arguments.input, arguments.before, arguments.after, columns_of(arguments), settings, other)
    rows = reachability_rows(table, settings)
    title = f"Reach of the teacher's first choice (K = {table.topk}, {len(table):,} tokens)"
    paths = write_tables(arguments.output_dir, "q3_reachability", rows, title)
    summary = {"settings": vars(settings), "tokens": len(table), "counts": table.counts, "reachability": rows}
    return [*paths, write_summary(arguments.output_dir / "summary.json", summary)]
