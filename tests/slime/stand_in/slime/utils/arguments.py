"""slime's arguments, as far as these tests set them: flags, our hook, and then the keys of --custom-config-path.

Like slime's, this parser leaves alone what it does not know.
"""

import argparse
import json
from pathlib import Path

HOOKS = (
    "--custom-rm-path",
    "--custom-reward-post-process-path",
    "--custom-rollout-log-function-path",
    "--custom-generate-function-path",
    "--custom-advantage-function-path",
    "--rollout-data-postprocess-path",
    "--custom-megatron-init-path",
)
TEXTS = ("--rm-type", "--rm-url", "--hf-checkpoint", "--load-debug-rollout-data", "--custom-config-path")


def parse_args(add_custom_arguments=None):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in (
        *HOOKS,
        "--rm-type",
        "--rm-url",
        "--hf-checkpoint",
        "--load-debug-rollout-data",
        "--custom-config-path",
    ):
        parser.add_argument(name, default=None)
    parser.add_argument("--use-opd", action="store_true")
    parser.add_argument("--debug-train-only", action="store_true")
    parser.add_argument("--opd-type", choices=["sglang", "megatron"], default=None)
    parser.add_argument("--opd-kl-coef", type=float, default=1.0)
    parser.add_argument("--opd-teacher-load", default=None)
    parser.add_argument("--opd-teacher-ckpt-step", type=int, default=None)
    parser.add_argument("--rollout-temperature", type=float, default=1.0)
    parser.add_argument("--rollout-top-p", type=float, default=1.0)
    parser.add_argument("--rollout-top-k", type=int, default=-1)
    parser.add_argument("--loss-type", choices=["policy_loss", "sft_loss", "custom_loss"], default="policy_loss")
    parser.add_argument("--custom-loss-function-path", default=None)
    parser.add_argument("--calculate-per-token-loss", action="store_true")
    parser.add_argument("--normalize-advantages", action="store_true")
    if add_custom_arguments is not None:
        parser = add_custom_arguments(parser)
    args, _ = parser.parse_known_args()
    if args.custom_config_path:
        for key, value in json.loads(Path(args.custom_config_path).read_text(encoding="utf-8")).items():
            setattr(args, key, value)
    return args
