"""fixed_context_report: figures and the offline page of one gain file and its analyses."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from ..commands.cli import add_setting_flags, run_command, settings_of
from ..commands.topn import parse_ratios
from ..parser import Parser
from ..progress import phase
from ..statistics.settings import Settings
from ..statistics.topn import RATIOS
from .figures import all_plots, draw_plot, save_drawing
from .findings import findings
from .page import Page, write_page
from .source import Source, read_source
from .tables import Tables, check_same_tokens, read_tables
from .texts import context_prompts, token_texts
from .tokens import token_view

TITLE = "Which teacher signals were learned"


def build_parser() -> Parser:
    parser = Parser(
        prog="fixed_context_report",
        description="Figures and report.html, one offline file, of one gain file and its analyses.",
    )
    parser.add_argument("--input", type=Path, metavar="FILE", help="a metrics file scored with --baseline-metrics")
    parser.add_argument(
        "--before", type=Path, metavar="FILE", help="metrics before training; with --input for its top tokens"
    )
    parser.add_argument("--after", type=Path, metavar="FILE", help="metrics after training, in place of --input")
    parser.add_argument(
        "--analysis", type=Path, action="append", default=[], metavar="DIR",
        help="output directory of an analysis command; repeatable",
    )  # fmt: skip
    parser.add_argument("--dataset", metavar="NAME", help="whose rows, where an analysis holds several gain files")
    parser.add_argument("--context-bank", type=Path, metavar="FILE", help="for the prompts' text")
    parser.add_argument("--tokenizer", metavar="DIR", help="for the tokens' text (default: the student's)")
    parser.add_argument("--title", default=TITLE)
    parser.add_argument(
        "--ratios", default=",".join(f"{r:g}" for r in RATIOS), help="budgets of the kept tokens (default: %(default)s)"
    )
    parser.add_argument("--output-dir", type=Path, required=True)
    add_setting_flags(parser, "q_low", "q_high", "h_quantile", "d_quantile", "use_quadrant", "seed")
    return parser


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


def work(arguments: argparse.Namespace) -> list[Path]:
    a, settings, ratios = arguments, settings_of(arguments), parse_ratios(arguments.ratios)
    tables = read_tables(a.analysis, a.dataset)
    source = read_source(a.input, a.before, a.after, settings, a.dataset)
    table = source.table
    check_same_tokens(tables, table.gain["absolute"], table.counts["prompts"])
    text_of, told = token_texts(source, a.tokenizer)
    prompts = context_prompts(source, a.context_bank)
    plots, absent = all_plots(table, tables)
    drawings, paths = [], []
    with phase(Console(stderr=True), "report", len(plots) + 2) as bar:
        for plot in plots:
            drawings.append(draw_plot(plot))
            paths += save_drawing(drawings[-1], a.output_dir / "figures")
            bar.advance(1)
        view = token_view(source, text_of, prompts, ratios)
        bar.advance(1)
        page = Page(
            a.title,
            lead(source),
            [note for note in (told, *notes(source, tables)) if note],
            findings(tables, table.topk),
            drawings,
            absent,
            dict(tables),
            facts(source, settings, a.analysis),
            view,
        )
        paths.append(write_page(page, a.output_dir / "report.html"))
        bar.advance(1)
    return paths


def lead(source: Source) -> str:
    """What was compared with what, on how much."""
    table, told = source.table, source.metadata
    contexts = source.frame["context_id"].n_unique()
    names = ", ".join(f"{role} {Path(str(told[role])).name}" for role in ("student", "teacher") if told.get(role))
    size = f"{len(table):,} response tokens in {contexts:,} frozen contexts of {table.counts['prompts']:,} prompts"
    return f"{size}{f'; {names}' if names else ''}; K = {table.topk}."


def notes(source: Source, tables: Tables) -> list[str]:
    """What a reader must know before the numbers."""
    counts = source.table.counts
    found = []
    if counts.get("masked"):
        found.append(f"{counts['masked']:,} of {counts['rows']:,} tokens do not count: their loss mask is 0")
    found += source.table.notes
    if counts["prompts"] == 1:
        found.append("one prompt only: there is no bootstrap over prompts, so there are no intervals")
    for summary in tables.summaries.values():
        check = summary.get("null_check")
        if check:
            size = f"largest difference {check['largest']:.2g} nats, allowed {check['tolerance']:.2g}"
            found.append(
                f"Null check passed: the checkpoint before training, scored twice, gains nothing ({size})."
                if check["passed"]
                else f"NULL CHECK FAILED: the checkpoint before training, scored twice, seems to gain ({size})."
            )
    replayed = tables.get("replay_check", [])
    if replayed:
        exact = sum(row["exact"] for row in replayed)
        found.append(
            f"Mask replay: the bank's own mask was made again exactly in {exact:,} of {len(replayed):,} rollouts"
            f"{'.' if exact == len(replayed) else ': where it was not, see replay_check.'}"
        )
    return found


def facts(source: Source, settings: Settings, analyses: list[Path]) -> dict[str, Any]:
    """What the numbers were made with."""
    told: dict[str, Any] = {"metrics": str(source.path)}
    _flatten(source.metadata, "", told)
    told |= {
        f"normalisation {name}": getattr(settings, name) for name in ("q_low", "q_high", "h_quantile", "d_quantile")
    }
    return told | {"analyses": ", ".join(map(str, analyses)) or "none"}


def _flatten(value: Any, name: str, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(inner, f"{name}.{key}" if name else str(key), into)
    else:
        into[name] = ", ".join(map(str, value)) if isinstance(value, list) else value
