"""eval_fixed_context_bank: one checkpoint of the student and the teacher on a context bank, token by token."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl
from rich.console import Console

from .command import add_scoring_flags, run, say, scoring_settings
from .parser import Parser
from .plan import make_plan
from .schema import GAINS, metrics_file_schema, read_metrics
from .scoring import evaluate
from .settings import EvalSettings

_SHOWN = ("KLf", "KLr", "JSD", "Hs", "Ht", "KLf_union", "Cmass_exact", "Cmass_topk", *GAINS)


def build_parser() -> Parser:
    parser = Parser(
        prog="eval_fixed_context_bank",
        description="Score every response token of a context bank with a student and a teacher.",
    )
    parser.add_argument("--student", required=True, help="directory or hub name, in transformers' form")
    parser.add_argument("--teacher", required=True, help="the same, or /generate URLs of SGLang servers with commas")
    parser.add_argument("--output", type=Path, required=True, help="the metrics file (.parquet)")
    add_scoring_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)

    def work(console: Console) -> None:
        score(scoring_settings(arguments, arguments.student, arguments.teacher, arguments.output), console)

    return run(parser.prog, work)


def score(settings: EvalSettings, console: Console) -> None:
    """Check, score, write, and say what came out. Raises ValueError for what the person gave."""
    started = time.monotonic()
    plan = make_plan(settings)
    if plan.empty:
        say(console, f"{len(plan.empty):,} contexts without a response are left out: {', '.join(plan.empty[:5])}")
    evaluate(plan, console)
    seconds = time.monotonic() - started
    say(
        console,
        f"{plan.tokens:,} tokens of {plan.metadata['contexts']:,} contexts in {seconds:.1f} s: {settings.output}",
    )
    say(console, "mean over tokens that count: " + _means(settings.output))


def _means(path: Path) -> str:
    names = [name for name in _SHOWN if name in metrics_file_schema(path).names]
    frame = read_metrics(path, columns=[*names, "loss_mask"]).filter(pl.col("loss_mask") != 0)
    means = {name: frame[name].mean() for name in names}
    return ", ".join(f"{name} {mean:.4f}" for name, mean in means.items() if mean is not None) or "none counts"
