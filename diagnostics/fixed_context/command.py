"""What the commands share: one line for what is wrong, progress for what takes long, the flags of scoring."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from .models import DTYPES
from .parser import USAGE_ERROR, os_error_line
from .settings import EvalSettings


def run(prog: str, work: Callable[[Console], None]) -> int:
    """The exit code: 0, 2 with one line for what the person gave, 130 for an interrupt."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        work(console)
    except ValueError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except OSError as error:
        print(f"{prog}: error: {os_error_line(error)}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"{prog}: interrupted; the same command goes on from what is finished", file=sys.stderr)
        return 130
    return 0


def say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def add_scoring_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that eval_fixed_context_bank and eval_fixed_context_from_megatron share."""
    default = {name: field.default for name, field in EvalSettings.__dataclass_fields__.items()}
    parser.add_argument("--context-bank", type=Path, required=True, help="what export_fixed_context_bank wrote")
    parser.add_argument("--baseline-metrics", type=Path, help="metrics of the student before training: adds the gains")
    parser.add_argument("--topk", type=int, default=default["topk"], help="K (default: %(default)s)")
    parser.add_argument("--extra-topk", default="", help="more Ks, comma-separated: columns NAME_kN")
    parser.add_argument("--max-samples", type=int, help="score the first contexts only")
    parser.add_argument("--max-response-tokens", type=int, help="score the first tokens of each response only")
    parser.add_argument("--student-device", default="cpu", help="cpu, cuda, cuda:N, or auto: spread over all GPUs")
    parser.add_argument("--teacher-device", default="cpu", help="the same; its output layer runs beside the student's")
    parser.add_argument("--dtype", default="auto", choices=DTYPES, help="of both models (auto: as they were saved)")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with a model")
    parser.add_argument("--allow-tokenizer-mismatch", action="store_true", help="score models with other tokenizers")
    parser.add_argument("--teacher-tokenizer", help="of a teacher behind a server that does not name it")
    parser.add_argument("--teacher-cache", type=Path, help="where the teacher's side is kept (default: BANK.teacher)")
    parser.add_argument("--exact-cmass", action="store_true", help="ask a server's teacher for C itself: slow")
    parser.add_argument("--batch-tokens", type=int, help="tokens of a forward pass (default: 4096, on a GPU 65536)")


def scoring_settings(arguments: argparse.Namespace, student: str, teacher: str, output: Path) -> EvalSettings:
    """Raises ValueError for what is out of range."""
    given = {name: getattr(arguments, name) for name in EvalSettings.__dataclass_fields__ if hasattr(arguments, name)}
    try:
        extra = tuple(int(part) for part in arguments.extra_topk.replace(",", " ").split())
    except ValueError as error:
        raise ValueError(f"--extra-topk {arguments.extra_topk!r} is not whole numbers with commas between") from error
    return EvalSettings(**(given | {"student": student, "teacher": teacher, "output": output, "extra_topk": extra}))
