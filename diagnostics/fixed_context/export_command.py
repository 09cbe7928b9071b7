"""export_fixed_context_bank: freeze the student's own contexts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from .command import run, say
from .context_bank import Sample, build_bank, describe, write_bank
from .debug_rollouts import read_debug_rollouts
from .models import load_tokenizer
from .parser import Parser
from .sample_tables import ENGINE_CONTEXTS, matching_files, read_contexts, read_local_engine, read_token_bank


def build_parser() -> Parser:
    parser = Parser(
        prog="export_fixed_context_bank",
        description="Freeze contexts (prompts and responses of the student) into one file for scoring.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--debug-rollout-data", metavar="GLOB", help="dumps of slime's --save-debug-rollout-data")
    source.add_argument("--contexts", metavar="GLOB", help="tables with prompt_tokens and response_tokens")
    source.add_argument("--token-bank", metavar="GLOB", help="files of a token bank, with --prompts")
    source.add_argument("--local-engine", type=Path, metavar="OUT", help="output directory of the embedded engine")
    parser.add_argument("--prompts", type=Path, help="of a token bank: group_index or sample_index, prompt_tokens")
    parser.add_argument("--tokenizer", help="directory or hub name: text, and a fingerprint that scoring checks")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the tokenizer")
    parser.add_argument("--max-samples", type=int, help="the first contexts only")
    parser.add_argument("--output", type=Path, required=True, help="FILE.parquet, FILE.jsonl or FILE.csv")
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    arguments = parser.parse_args(argv)
    return run(parser.prog, lambda console: export(arguments, console))


def export(arguments: argparse.Namespace, console: Console) -> None:
    """Raises ValueError for what the person gave."""
    if arguments.max_samples is not None and arguments.max_samples < 1:
        raise ValueError(f"--max-samples {arguments.max_samples} must be 1 or more")
    if (arguments.token_bank is None) != (arguments.prompts is None):
        raise ValueError("--token-bank and --prompts go together: a token bank has no prompts")
    name = arguments.tokenizer
    if name is None and arguments.local_engine is not None:
        name = str(arguments.local_engine / "models" / "student")
    tokenizer = None if name is None else load_tokenizer("--tokenizer", name, arguments.trust_remote_code)
    bank, counts = build_bank(_samples(arguments, tokenizer), arguments.max_samples, tokenizer)
    manifest = write_bank(arguments.output, bank, counts, tokenizer, _files_read(arguments))
    say(console, describe(counts))
    size = f"{manifest['contexts']:,} contexts of {manifest['prompts']:,} prompts"
    say(console, f"{size}, {manifest['response_tokens']:,} response tokens: {arguments.output}")


def _files_read(arguments: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Flags and the files that they name."""
    for name in ("debug_rollout_data", "contexts", "token_bank"):
        flag, pattern = "--" + name.replace("_", "-"), getattr(arguments, name)
        if pattern is not None:
            yield from ((flag, path) for path in matching_files(flag, pattern))
    if arguments.prompts is not None:
        yield "--prompts", arguments.prompts
    if arguments.local_engine is not None:
        yield "--local-engine", arguments.local_engine / ENGINE_CONTEXTS


def _samples(arguments: argparse.Namespace, tokenizer: Any) -> Iterator[Sample]:
    if arguments.debug_rollout_data is not None:
        return read_debug_rollouts(arguments.debug_rollout_data)
    if arguments.contexts is not None:
        return read_contexts(arguments.contexts)
    if arguments.token_bank is not None:
        return read_token_bank(arguments.token_bank, arguments.prompts, tokenizer)
    return read_local_engine(arguments.local_engine)
