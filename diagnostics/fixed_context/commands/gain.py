"""analyze_fixed_context_gain: every table of one gain file, and summary.json."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from ..parser import Parser
from ..progress import phase
from ..schema import KEY, read_metrics
from ..statistics.analysis import PARTS, analyse, write_analysis
from ..statistics.gain import Floats, GainTable, load_gains
from ..statistics.opd_measures import COLUMNS as MEASURED
from ..statistics.settings import Columns
from .cli import add_column_flags, add_setting_flags, columns_of, run_command, settings_of, stderr_console

OTHER = ("KLr", "KLr_union", *MEASURED)


def build_parser() -> Parser:
    parser = Parser(
        prog="analyze_fixed_context_gain", description="Which teacher signals were learned, on frozen contexts."
    )
    add_gain_inputs(parser)
    parser.add_argument("--null", type=Path, metavar="FILE", help="the baseline scored twice: all its gains must be 0")
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
    settings, columns = settings_of(arguments), columns_of(arguments)
    table = load_gains(arguments.input, arguments.before, arguments.after, columns, settings, OTHER)
    null = load_gains(arguments.null, columns=columns, settings=settings) if arguments.null else None
    independent = independent_disagreement(table, arguments.independent, columns) if arguments.independent else None
    with phase(stderr_console(), "analyse", PARTS) as bar:
        analysis = analyse(table, settings, null, independent, bar.advance)
    return write_analysis(analysis, arguments.output_dir)


def independent_disagreement(table: GainTable, path: Path, columns: Columns) -> Floats:
    """float64 [N]: D of the table's tokens in another metrics file. Raises ValueError unless it has every one."""
    other = read_metrics(path, needed=[columns.d], columns=[columns.d])
    mine = pl.DataFrame({"context_id": table.context, "tok_pos": table.tok_pos}).with_columns(
        pl.col("tok_pos").cast(other["tok_pos"].dtype)
    )
    joined = mine.join(other.select([*KEY, columns.d]), on=KEY, how="left", maintain_order="left", validate="1:1")
    if absent := int(joined[columns.d].is_null().sum()):
        raise ValueError(f"--independent {path}: no {columns.d} for {absent:,} of {len(mine):,} tokens")
    return joined[columns.d].cast(pl.Float64).to_numpy().astype(np.float64)
