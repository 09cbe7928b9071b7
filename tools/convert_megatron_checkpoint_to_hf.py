"""An iteration of a Megatron torch_dist checkpoint as a Hugging Face model, by slime's own converter; no GPU needed.

python tools/convert_megatron_checkpoint_to_hf.py --checkpoint-root CKPT --origin-hf-dir HF --output-dir OUT
"""

import argparse
import sys
from pathlib import Path

from checkpoint_conversion.checkpoints import check_complete, iteration_folder
from checkpoint_conversion.command_line import Parser, add_common_arguments, exit_code
from checkpoint_conversion.hf_model import check_model, check_origin, complete
from checkpoint_conversion.slime_tools import Slime
from checkpoint_conversion.staging import check_free, partial_folder, staged

PROG = "convert_megatron_checkpoint_to_hf"
EPILOG = """\
The model is written beside OUT, checked, and renamed when it is whole, so a run that is killed leaves no half of one.
Checked: every file of the checkpoint is there; every shard and tensor of the model's index is there; every tensor of
the origin was converted and has the origin's shape. Flags after -- go to slime's tool as they are.

exit codes: 0 done, 1 slime's tool failed or wrote no whole model, 2 a mistake in the call; only with 0 has OUT changed
"""


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROG, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint-root", type=Path, metavar="CKPT", help="folder of the iterations: slime's --save")
    source.add_argument("--input-dir", type=Path, metavar="DIR", help="folder of one iteration: CKPT/iter_0000049")
    parser.add_argument("--iteration", metavar="N", help="of CKPT: latest, release or a number (default: latest)")
    parser.add_argument(
        "--origin-hf-dir",
        type=Path,
        required=True,
        metavar="HF",
        help="the model the student began as: its configuration and tokenizer",
    )
    parser.add_argument("--output-dir", type=Path, required=True, metavar="OUT", help="folder of the model to make")
    parser.add_argument("--parallel", action="store_true", help="slime's converter of several processes")
    add_common_arguments(parser)
    parser.add_argument("extra", nargs="*", metavar="FLAGS", help="after --: more flags of slime's tool")
    return parser


def source_folder(options: argparse.Namespace) -> Path:
    if options.input_dir is None:
        return iteration_folder(options.checkpoint_root.expanduser().resolve(), options.iteration or "latest")
    if options.iteration is not None:
        raise ValueError(f"--iteration {options.iteration} is of --checkpoint-root; --input-dir is one iteration")
    return options.input_dir.expanduser().resolve()


def convert(options: argparse.Namespace) -> None:
    slime = Slime.from_options(options.slime_dir, options.megatron_dir, options.python)
    origin, output = options.origin_hf_dir.expanduser().resolve(), options.output_dir.expanduser().absolute()
    source = source_folder(options)
    check_complete(source)
    check_origin(origin)
    check_free(output, options.force)

    def command(target: Path):
        return slime.to_hf(source, origin, target, options.parallel, options.extra)

    if options.dry_run:
        print(command(partial_folder(output) / "new"))
        print(f"# checked, then renamed to {output}")
        return
    with staged(output, options.force) as (target, lock):
        command(target).run(lock)
        complete(target, origin)
        summary = check_model(target, origin)
    print(f"wrote {output} from {source.name}: {summary}")


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    return exit_code(PROG, lambda: convert(options))


if __name__ == "__main__":
    sys.exit(main())
