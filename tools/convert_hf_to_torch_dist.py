"""A Hugging Face model as a Megatron torch_dist checkpoint, by slime's own converter: what STUDENT_TORCH_DIST names.

python tools/convert_hf_to_torch_dist.py --model-script qwen3-1.7B --hf-checkpoint HF --output-dir OUT [--nproc 8]
"""

import argparse
import sys
from pathlib import Path

from checkpoint_conversion.checkpoints import check_complete, iteration_folder
from checkpoint_conversion.command_line import Parser, ToolFailed, add_common_arguments, exit_code
from checkpoint_conversion.slime_tools import Slime, model_arguments
from checkpoint_conversion.staging import check_free, partial_folder, staged

PROG = "convert_hf_to_torch_dist"
EPILOG = """\
The checkpoint is written beside OUT and renamed when it is whole, so a run that is killed leaves no half of one.
Flags after -- go to slime's tool as they are: ... -- --tensor-model-parallel-size 2 --make-vocab-size-divisible-by 64

exit codes: 0 done, 1 slime's tool failed, 2 a mistake in the call; only with 0 has OUT changed
"""


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROG, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hf-checkpoint", type=Path, required=True, metavar="HF", help="folder of the model")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="OUT", help="folder of the new checkpoint")
    parser.add_argument(
        "--model-script",
        required=True,
        metavar="NAME",
        help="NAME of the checkout's scripts/models/NAME.sh, or the path of a script, which sets MODEL_ARGS",
    )
    parser.add_argument("--nproc", type=int, default=1, help="GPUs to spread the layers over (default: %(default)s)")
    add_common_arguments(parser)
    parser.add_argument("extra", nargs="*", metavar="FLAGS", help="after --: more flags of slime's tool")
    return parser


def convert(options: argparse.Namespace) -> None:
    if options.nproc < 1:
        raise ValueError(f"--nproc {options.nproc}: must be at least 1")
    slime = Slime.from_options(options.slime_dir, options.megatron_dir, options.python)
    origin, output = options.hf_checkpoint.expanduser().resolve(), options.output_dir.expanduser().absolute()
    if not (origin / "config.json").is_file():
        raise ValueError(f"--hf-checkpoint {origin} is no Hugging Face model: no config.json in it")
    model = model_arguments(slime.model_script(options.model_script))
    check_free(output, options.force)

    def command(target: Path):
        return slime.to_torch_dist(model, origin, target, options.nproc, options.extra)

    if options.dry_run:
        print(command(partial_folder(output) / "new"))
        print(f"# checked, then renamed to {output}")
        return
    with staged(output, options.force) as (target, lock):
        command(target).run(lock)
        try:
            iteration = iteration_folder(target, "latest")
            check_complete(iteration)
        except ValueError as error:
            raise ToolFailed(f"slime's tool wrote no whole checkpoint: {error}") from error
    print(f"wrote {output} ({iteration.name})")


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    return exit_code(PROG, lambda: convert(options))


if __name__ == "__main__":
    sys.exit(main())
