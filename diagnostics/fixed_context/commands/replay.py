"""replay_masks: selectors and ratios on a token bank or a metrics file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from ta_opd import Options
from ta_opd.options import add_arguments

from ..files import row_count
from ..parser import Parser
from ..progress import phase
from ..replay.bank_reader import BankRollout, bank_files, bank_options, metrics_rollout, read_rollouts
from ..replay.mask_replay import jaccard_rows, parse_entries, position_rows, replay_bank, selector_rows
from ..schema import metrics_file_schema
from ..statistics.tables import write_summary, write_tables
from .cli import run_command, stderr_console

DEFAULT_METHODS = "teachability:0.10 entropy:0.10 teachability_entropy:0.10 tip:0.10 divergence:0.10 random:0.10"
SELECTION = (
    "budget_scope",
    "budget_gamma",
    "budget_mask_seed",
    "budget_min_keep_per_sample",
    "score_variant",
    "compat_proxy",
    "compat_prefix_ema_alpha",
    "metric_normalization",
    "metric_q_low",
    "metric_q_high",
)
"""Options that a mask depends on beside method and ratio."""


def build_parser() -> Parser:
    parser = Parser(
        prog="replay_masks",
        description="What any selector at any ratio would have kept on a saved token bank.",
        epilog="The --opd flags stand in where no config.json or FILE.manifest.json says how the bank was written.",
    )
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="PATH",
        help="token bank directories or Parquet files, or a metrics file",
    )
    parser.add_argument("--methods", default=DEFAULT_METHODS, help="entries method:ratio (default: %(default)s)")
    parser.add_argument("--output-dir", type=Path, required=True)
    add_arguments(parser, leave_out=tuple(name for name in vars(Options()) if name not in SELECTION))
    return parser


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


def work(arguments: argparse.Namespace) -> list[Path]:
    entries, base = parse_entries(arguments.methods), Options.from_namespace(arguments)
    files = bank_files(arguments.input)
    settings = {file: bank_options(file) for file in files}

    def options_of(rollout: BankRollout) -> Options | None:
        told = settings[rollout.source]
        return told.get("") or told.get(rollout.run)

    total = sum(map(row_count, files))
    with phase(stderr_console(), "replay", total) as bar:
        result = replay_bank(_rollouts(files), entries, base, options_of, lambda r: bar.advance(len(r.tokens)))
    if not result.valid:
        raise ValueError(f"--input {' '.join(arguments.input)}: none of {result.tokens:,} tokens counts")
    where = f"{result.valid:,} valid tokens of {result.rollouts:,} rollouts"
    directory, summed = arguments.output_dir, selector_rows(result)
    jaccard, positions = jaccard_rows(result), position_rows(result)
    paths = []
    for stem, rows, title in (
        ("replay_selectors", summed, f"What each selector keeps ({where})"),
        ("replay_jaccard", jaccard, f"Jaccard index of the kept tokens ({where})"),
        ("replay_positions", positions, f"Kept tokens by position in the response ({where})"),
        ("replay_rollouts", result.rows, "Rollout by rollout"),
        ("replay_check", result.checks, "The bank's own mask, made again"),
    ):
        paths += write_tables(directory, stem, rows, title)
    different = [row for row in result.checks if not row["exact"]]
    summary = {
        "inputs": [str(file) for file in files],
        "rollouts": result.rollouts,
        "tokens": result.tokens,
        "valid": result.valid,
        "selectors": summed,
        "jaccard": jaccard,
        "check": {
            "rollouts": len(result.checks),
            "exact": len(result.checks) - len(different),
            "different": different[:20],
        },
    }
    return [*paths, write_summary(directory / "summary.json", summary)]


def _rollouts(files: list[Path]) -> Iterator[BankRollout]:
    for file in files:
        if "context_id" in metrics_file_schema(file).names:
            yield metrics_rollout(file)
        else:
            yield from read_rollouts(file)
