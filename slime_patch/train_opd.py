"""slime's training entry with the flags of teachability-aware on-policy distillation.

    python train_opd.py --use-opd --opd-type sglang --rm-url http://TEACHER:PORT/generate \\
        --opd-topk-metrics-k 16 --opd-budget-mask teachability --opd-budget-ratio 0.10 <slime's own flags>

Takes slime's flags, ours, and `opd_...` keys of --custom-config-path; fills in slime's hook and loss settings; checks
everything before a GPU is touched. Exits with 2 and one line on a mistake.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields

from slime.utils.arguments import parse_args
from slime.utils.opd_checks import check_settings, fill_in_hooks
from slime.utils.opd_loss_checks import fill_in_loss
from slime.utils.opd_settings import SLIME_OPTIONS, slime_options
from ta_opd.option_fields import add_flags, did_you_mean, flag
from ta_opd.slime_options import SlimeOptions


def parse_opd_args() -> Namespace:
    """slime's arguments with ours, checked. Raises ValueError for whatever is wrong with them."""
    refuse_unknown(sys.argv[1:])
    args = parse_args(add_custom_arguments=register)
    if not args.use_opd:
        raise ValueError("train_opd.py is for on-policy distillation: add --use-opd, or start slime's train.py")
    options = slime_options(args)
    fill_in_loss(args, options, sys.argv[1:])
    check_settings(args, options)
    fill_in_hooks(args)
    if args.opd_type == "sglang" and not args.debug_train_only and args.load_debug_rollout_data is None:
        from slime.rollout.opd_generate import check_generate
        from slime.utils.opd_teacher_checks import check_teachers
        from slime.utils.processing_utils import load_tokenizer

        check_generate()
        check_teachers(args, options, load_tokenizer(args.hf_checkpoint, trust_remote_code=True))
    return args


def register(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add our flags to slime's parser."""
    add_flags(parser, SlimeOptions)
    return parser


def refuse_unknown(words: Sequence[str]) -> None:
    """Raises ValueError for a word that begins with `--opd-` and is nobody's flag: slime's parser would let it pass."""
    known = {flag(f.name) for f in fields(SlimeOptions)} | {"--" + name.replace("_", "-") for name in SLIME_OPTIONS}
    for word in words:
        name = word.partition("=")[0]
        if name.replace("_", "-").startswith("--opd-") and name not in known:
            raise ValueError(f"unknown flag {name}{did_you_mean(name.replace('_', '-'), known)}")


def main() -> None:
    try:
        args = parse_opd_args()
    except ValueError as error:
        print(f"train_opd.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    importlib.import_module(args.opd_entry).train(args)


if __name__ == "__main__":
    main()
