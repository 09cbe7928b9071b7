"""eval_fixed_context_from_megatron: convert an iteration of a Megatron checkpoint, then score it on a context bank."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from .command import add_scoring_flags, run, say, scoring_settings
from .eval_command import score
from .models import local_folder
from .parser import Parser

METRICS = "fixed_context_metrics.parquet"


def build_parser() -> Parser:
    parser = Parser(
        prog="eval_fixed_context_from_megatron",
        description=f"Convert an iteration of a Megatron checkpoint and score it; writes OUTPUT_DIR/{METRICS}.",
    )
    parser.add_argument("--checkpoint-root", type=Path, required=True, help="folder of the iterations: slime's --save")
    parser.add_argument("--iteration", default="latest", help="latest, release or a number (default: %(default)s)")
    parser.add_argument("--origin-hf-dir", required=True, help="the model the student began as: a folder or hub name")
    parser.add_argument("--teacher-hf-dir", required=True, help="the teacher, or /generate URLs of SGLang servers")
    parser.add_argument("--output-dir", type=Path, required=True, help="metrics, and the converted model as hf_N")
    parser.add_argument("--parallel-convert", action="store_true", help="slime's converter of several processes")
    parser.add_argument("--force-convert", action="store_true", help="convert again what is converted already")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done; write nothing")
    parser.add_argument("--slime-dir", default=os.environ.get("SLIME_DIR"), help="(default: $SLIME_DIR)")
    parser.add_argument("--megatron-dir", default=os.environ.get("MEGATRON_LM_DIR"), help="(default: $MEGATRON_LM_DIR)")
    parser.add_argument("--python", default=sys.executable, help="the Python with slime's packages (default: this one)")
    add_scoring_flags(parser)
    return parser


def main(converter: Path, argv: list[str] | None = None) -> int:
    """converter: the command that converts, tools/convert_megatron_checkpoint_to_hf.py."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    return run(parser.prog, lambda console: convert_and_score(arguments, converter, console))


def convert_and_score(arguments: argparse.Namespace, converter: Path, console: Console) -> None:
    """A model that was converted before is taken as it is. Raises ValueError for what the person gave, or where the
    conversion failed, whose own message stands above."""
    iteration = arguments.iteration
    if iteration == "latest":
        iteration = latest_iteration(arguments.checkpoint_root)
    model = arguments.output_dir / f"hf_{iteration}"
    settings = scoring_settings(arguments, str(model), arguments.teacher_hf_dir, arguments.output_dir / METRICS)
    origin = arguments.origin_hf_dir if arguments.dry_run else local_folder("--origin-hf-dir", arguments.origin_hf_dir)
    command = _command(arguments, origin, converter, iteration, model)
    wanted = arguments.force_convert or not model.is_dir()
    if arguments.dry_run:
        say(console, shlex.join(command) if wanted else f"# {model} is converted already")
        say(console, f"# then {settings.context_bank} is scored: {settings.output}")
        return
    if wanted:
        code = subprocess.run(command).returncode
        if code:
            raise ValueError(f"--checkpoint-root {arguments.checkpoint_root}: the conversion ended with code {code}")
    else:
        say(console, f"{model} is converted already (--force-convert does it again)")
    score(settings, console)


def latest_iteration(root: Path) -> str:
    """What Megatron noted as the last one. Raises ValueError where there is no such note."""
    path = root / "latest_checkpointed_iteration.txt"
    if not path.is_file():
        raise ValueError(f"--checkpoint-root {root}: no {path.name}; give --iteration N")
    return path.read_text(encoding="utf-8").strip()


def _command(
    arguments: argparse.Namespace, origin: str | Path, converter: Path, iteration: str, model: Path
) -> list[str]:
    given = {
        "--checkpoint-root": arguments.checkpoint_root,
        "--iteration": iteration,
        "--origin-hf-dir": origin,
        "--output-dir": model,
        "--slime-dir": arguments.slime_dir,
        "--megatron-dir": arguments.megatron_dir,
        "--python": arguments.python,
    }
    flags = [str(part) for flag, value in given.items() if value is not None for part in (flag, value)]
    switches = {"--parallel": arguments.parallel_convert, "--force": arguments.force_convert}
    return [sys.executable, str(converter), *flags, *(flag for flag, on in switches.items() if on)]
