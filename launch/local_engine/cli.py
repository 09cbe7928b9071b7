"""python -m local_engine --out DIR [--prompts FILE] [--methods "teachability:0.10 random:0.10"] [--seeds "0 1"]"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import torch
from rich.console import Console
from ta_opd import Options
from ta_opd.files import write_json, write_text
from ta_opd.options import add_arguments

from .corpus import Corpus
from .defaults import GENERATED_PROBLEM_DEFAULTS, EngineDefaults
from .engine import run_engine
from .models import quiet_transformers, train_tokenizer
from .prompts import Problem, load_problems, split_problems
from .report import build_report, report_data, save_plots
from .results import result_records, summary_records
from .settings import Settings, add_engine_arguments, engine_defaults
from .store import open_store
from .suite import DEFAULT_METHODS, all_runs, parse_methods, parse_seeds
from .table import markdown_table, print_table
from .word_problems import generate_problems

_FOR_EACH_RUN = ("budget_mask", "budget_ratio", "token_bank_dir", "token_bank_raw_topk")
_MOST_WORKERS = 2
NOTICE = (
    "Toy models are a demonstration: they show the code at work and let selectors be compared under equal budgets. "
    "Which selector wins here says nothing about large models."
)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; --help has the rest."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="local_engine",
        usage="python -m local_engine --out OUT [--prompts FILE] [any flag below]",
        description="On-policy distillation of a toy Qwen3 student with every selector, on one CPU or GPU.",
    )
    parser.add_argument("--out", type=Path, required=True, help="output directory (OUT)")
    parser.add_argument("--prompts", type=Path, help="JSONL of problems (PROMPTS); default: generated word problems")
    parser.add_argument("--input-key", help="key of the prompt in the file (default: prompt, question or input)")
    parser.add_argument("--label-key", help="key of the solution (default: label, answer or solution)")
    parser.add_argument("--methods", default=DEFAULT_METHODS, help="entries method:ratio (METHODS)")
    parser.add_argument("--seeds", default="0", help="seeds of the distillation runs (SEEDS)")
    parser.add_argument("--workers", type=int, help=f"runs at a time (default: one a core, at most {_MOST_WORKERS})")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to distil; pre-training is on the CPU"
    )
    add_engine_arguments(parser)
    add_arguments(parser, leave_out=_FOR_EACH_RUN, topk_metrics_k=16)
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 150, soft_wrap=not terminal)
    quiet_transformers()
    try:
        with ExitStack() as stack:
            try:
                settings, corpus = prepare(arguments)
                out = stack.enter_context(open_store(arguments.out, settings.fingerprint()))
            except ValueError as error:
                print(f"local_engine: error: {error}", file=sys.stderr)
                return 2
            console.print(describe(settings, corpus), highlight=False)
            run(settings, corpus, out, console)
    except KeyboardInterrupt:
        console.print(f"\ninterrupted; the same command continues {arguments.out} from the last finished step")
        return 130
    except FloatingPointError as error:
        print(f"local_engine: error: training diverged: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(arguments: argparse.Namespace) -> tuple[Settings, Corpus]:
    """Check every input without writing anything. Raises ValueError with one line for the person."""
    base = GENERATED_PROBLEM_DEFAULTS if arguments.prompts is None else EngineDefaults()
    defaults = engine_defaults(arguments, base)
    runs = all_runs(parse_methods(arguments.methods), parse_seeds(arguments.seeds))
    options = Options.from_namespace(arguments)
    options.check_read()
    if options.topk_metrics_k == 0:
        raise ValueError("--opd-topk-metrics-k 0: the engine compares selectors by their scores; give 1 or more")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda, but torch sees no CUDA device; allowed here: cpu")
    problems, source = _problems(arguments, defaults)
    try:
        train, held_out = split_problems(problems, defaults.held_out_problems, defaults.base_seed)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    tokenizer = train_tokenizer([f"{p.prompt}\n{p.solution}" for p in train], defaults.vocab_size)
    for name, value in (("topk-metrics-k", options.topk_metrics_k), ("loss-top-k", options.loss_top_k)):
        if value > len(tokenizer):
            raise ValueError(f"--opd-{name} {value} is larger than the vocabulary, {len(tokenizer)} tokens")
    corpus = Corpus.encode(tokenizer, train, held_out, defaults.max_prompt_tokens, defaults.max_solution_tokens)
    workers = min(_cores(), _MOST_WORKERS) if arguments.workers is None else arguments.workers
    if workers < 1:
        raise ValueError(f"--workers {workers} must be 1 or more")
    digest = hashlib.sha256("\0".join(f"{p.prompt}\0{p.solution}" for p in problems).encode()).hexdigest()
    identity = {"problems": len(problems), "sha256": digest}
    return Settings(runs, options, defaults, identity, arguments.device, workers, source), corpus


def _problems(arguments: argparse.Namespace, defaults: EngineDefaults) -> tuple[list[Problem], str]:
    """The problems used, and where they come from."""
    if arguments.prompts is None:
        if arguments.input_key or arguments.label_key:
            raise ValueError("--input-key and --label-key go with --prompts (PROMPTS)")
        return generate_problems(defaults.problems, defaults.base_seed), "generated word problems"
    problems = load_problems(arguments.prompts, arguments.input_key, arguments.label_key)
    source = arguments.prompts.name
    if len(problems) > defaults.problems:
        source = f"{source}, the first {defaults.problems:,} of {len(problems):,} problems"
    return problems[: defaults.problems], source


def _cores() -> int:
    """Those this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(settings: Settings, corpus: Corpus) -> str:
    """What is used of the problems, and what is cut off."""
    most = settings.defaults.max_prompt_tokens
    cut = sum(len(ids) == most for ids in corpus.held_out_prompts)
    return (
        f"{settings.source}: {len(corpus.train):,} to train on, {len(corpus.held_out):,} held out; {cut} of those have "
        f"prompts of {most} tokens or more and keep the last {most}; responses end at "
        f"{settings.defaults.max_new_tokens} tokens"
    )


def run(settings: Settings, corpus: Corpus, out: Path, console: Console) -> None:
    baseline, results = run_engine(settings, corpus, out, console)
    records = result_records(baseline, results, settings.defaults.base_seed)
    summary = summary_records(baseline, results, settings.defaults.base_seed)
    write_json(out / "results.json", records)
    write_json(out / "summary.json", summary)
    write_text(out / "summary.md", markdown_table(summary, baseline))
    data = report_data(settings, corpus, baseline, results, records, NOTICE)
    save_plots(data, out / "plots")
    build_report(data, out / "report.html")
    console.print()
    print_table(console, summary, baseline)
    bank = f"runs/*/token_bank/rollout_*.{settings.options.token_bank_format}"
    for name, files in (
        ("report", "report.html"),
        ("numbers", "results.json, summary.md, metrics.jsonl"),
        ("token bank", bank),
        ("models", "models/*, in transformers' form"),
    ):
        console.print(f"[bold]{name:<11}[/bold] {out}/{files}", highlight=False)
    console.print(NOTICE, style="dim", highlight=False)
