"""support_definition_robustness: the audit of several datasets in one table."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..parser import Parser
from ..progress import phase
from ..statistics.gain import load_gains
from ..statistics.support_audit import KS, agreement_rows, audit_rows
from ..statistics.tables import write_summary, write_tables
from .cli import (
    add_column_flags,
    add_setting_flags,
    columns_of,
    named_paths,
    run_command,
    settings_of,
    stderr_console,
)

_SHOWN = (
    "dataset",
    "definition",
    "k",
    "quantity",
    "value",
    "low",
    "high",
    "p_holm",
    "rank_correlation",
    "tokens",
    "prompts",
    "note",
)


def build_parser() -> Parser:
    parser = Parser(prog="support_definition_robustness", description="The findings under every definition of support.")
    parser.add_argument(
        "--dataset", action="append", required=True, metavar="NAME=PATH", help="a gain file; repeatable"
    )
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument(
        "--n-boot", type=int, default=1000, dest="bootstrap", help="replicates over prompts (default: %(default)s)"
    )
    add_column_flags(parser)
    add_setting_flags(
        parser, "q_low", "q_high", "h_quantile", "d_quantile", "low_c_quantile", "high_c_quantile", "seed"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


def work(arguments: argparse.Namespace) -> list[Path]:
    if arguments.bootstrap < 2:
        raise ValueError(f"--n-boot {arguments.bootstrap} must be 2 or more")
    settings, rows, datasets = settings_of(arguments), [], {}
    entries = named_paths(arguments.dataset, "--dataset")
    with phase(stderr_console(), "datasets", len(entries)) as bar:
        for name, path in entries:
            table = load_gains(path, columns=columns_of(arguments), settings=settings, name=name)
            rows += audit_rows(table, settings)
            datasets[name] = {"path": str(path), "tokens": len(table), "topk": table.topk, "counts": table.counts}
            bar.advance(1)
    agreement = agreement_rows(rows)
    directory = arguments.output_dir
    paths = write_tables(directory, "support_definitions", rows, "Findings by definition of support and K", _SHOWN)
    paths += write_tables(
        directory, "support_agreement", agreement, f"Over {len(datasets)} datasets: intervals above and below 0"
    )
    summary = {"settings": vars(settings), "ks": list(KS), "datasets": datasets, "agreement": agreement}
    return [*paths, write_summary(directory / "summary.json", summary)]
