"""analyze_fixed_context_gain: every table of one gain file, and summary.json."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ..parser import Parser
from ..progress import phase
from ..statistics.analysis import PARTS, analyse, write_analysis
from ..statistics.gain import load_gains
from ..statistics.opd_measures import COLUMNS as MEASURED
from .cli import add_column_flags, add_setting_flags, columns_of, run_command, settings_of, stderr_console
from .companions import independent_disagreement, null_gains

OTHER = ("KLr", "KLr_union", *MEASURED)


def build_parser() -> Parser:
    parser = Parser(
        prog="analyze_fixed_context_gain", description="Which teacher signals were learned, on frozen contexts."
    )
    add_gain_inputs(parser)
    parser.add_argument(
        "--null", type=Path, metavar="FILE", help="the student before training, scored twice: all its gains must be 0"
    )
    parser.add_argument(
        "--independent", type=Path, metavar="FILE", help="metrics of another student on the same contexts, for its D"
    )
    parser.add_argument("--output-dir", type=Path, required=True)
    add_column_flags(parser)
    add_setting_flags(parser)
    return parser


def add_gain_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", type=Path, metavar="FILE", help="a metrics file scored with --baseline-metrics")
    parser.add_argument("--before", type=Path, metavar="FILE", help="a metrics file of the student before training")
    parser.add_argument("--after", type=Path, metavar="FILE", help="a metrics file of the student after training")


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


def work(arguments: argparse.Namespace) -> list[Path]:
    a, settings, columns = arguments, settings_of(arguments), columns_of(arguments)
    table = load_gains(a.input, a.before, a.after, columns, settings, OTHER)
    null, independent, notes, main = None, None, list(table.notes), a.input or a.after
    if a.null:
        null, more = null_gains(a.null, main, table, columns, settings)
        notes += more
    if a.independent:
        independent, more = independent_disagreement(a.independent, main, table, columns)
        notes += more
    with phase(stderr_console(), "analyse", PARTS) as bar:
        analysis = analyse(table, settings, null, independent, bar.advance)
    return write_analysis(replace(analysis, notes=[*notes, *analysis.notes]), a.output_dir)
