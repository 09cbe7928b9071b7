"""Words of EXTRA_ARGS that train_opd.py would refuse, or that would make a run another than its records say."""

from __future__ import annotations

from dataclasses import fields

from ta_opd.option_fields import did_you_mean, flag
from ta_opd.slime_options import SlimeOptions

from .environment import Settings
from .kinds import split_words
from .opd_variables import GIVEN_BY_THE_RUN, variable_name
from .unknown_names import EXPLAINED

SLIME_FLAGS = ("--opd-type", "--opd-kl-coef", "--opd-teacher-load", "--opd-teacher-ckpt-step")
"""slime's own flags that begin like ours."""

_SAMPLING = ("--rollout-temperature", "--rollout-top-p", "--rollout-top-k")

FLAGS_OF_VARIABLES = {
    "--hf-checkpoint": "STUDENT_HF",
    "--ref-load": "STUDENT_TORCH_DIST",
    "--prompt-data": "PROMPT_DATA",
    "--input-key": "INPUT_KEY",
    "--label-key": "LABEL_KEY",
    "--num-rollout": "NUM_ROLLOUT",
    "--rollout-batch-size": "ROLLOUT_BATCH_SIZE",
    "--n-samples-per-prompt": "N_SAMPLES_PER_PROMPT",
    "--rollout-max-prompt-len": "ROLLOUT_MAX_PROMPT_LEN",
    "--rollout-max-response-len": "ROLLOUT_MAX_RESPONSE_LEN",
    "--rollout-seed": "ROLLOUT_SEED",
    "--global-batch-size": "GLOBAL_BATCH_SIZE",
    "--seed": "SEED",
    "--lr": "LR",
    "--opd-kl-coef": "OPD_KL_COEF",
    "--save-interval": "SAVE_INTERVAL",
    "--eval-interval": "EVAL_INTERVAL",
}
"""Flags by which a run is named, compared or gone on with: a word of EXTRA_ARGS would make the run another than its
records say."""

_CHECKPOINTS = "each run has its own, checkpoints/ in its folder"
_NOT_HERE = {
    "--save": _CHECKPOINTS,
    "--load": f"{_CHECKPOINTS}, and begins from STUDENT_TORCH_DIST",
    **{name: EXPLAINED[name[2:].replace("-", "_").upper()] for name in SLIME_FLAGS if name not in FLAGS_OF_VARIABLES},
}


def check_extra_args(s: Settings) -> None:
    """Raises ValueError for a flag that begins like ours and is nobody's, for one that changes how samples are drawn,
    and for one that a variable sets or the run itself."""
    ours = {flag(f.name): GIVEN_BY_THE_RUN.get(f.name) or _set(variable_name(f.name)) for f in fields(SlimeOptions)}
    instead = ours | {name: _set(variable) for name, variable in FLAGS_OF_VARIABLES.items()} | _NOT_HERE
    for name in _flags(s):
        dashed = name.replace("_", "-")
        if dashed in _SAMPLING:
            raise ValueError(
                f"EXTRA_ARGS: {name}: an SGLang teacher scores given tokens at temperature 1 over the whole vocabulary "
                "whatever it is asked, so student and teacher would be compared under different distributions"
            )
        if name in instead:
            raise ValueError(f"EXTRA_ARGS: {name}: {instead[name]}")
        if dashed.startswith("--opd-"):
            raise ValueError(f"EXTRA_ARGS: unknown flag {name}{did_you_mean(dashed, ours)}")


def _set(variable: str) -> str:
    return f"set {variable}, which is recorded with the run"


def check_evaluation(s: Settings) -> None:
    """Raises ValueError for an evaluation without data or without a judge."""
    words = split_words("EVAL_PROMPT_DATA", s["EVAL_PROMPT_DATA"])
    if not words:
        raise ValueError(f"EVAL_INTERVAL {s['EVAL_INTERVAL']} needs EVAL_PROMPT_DATA")
    if len(words) % 2:
        raise ValueError(f"EVAL_PROMPT_DATA {s['EVAL_PROMPT_DATA']!r} is not pairs of words: name path name path")
    if "--rm-type" not in _flags(s):
        raise ValueError(
            f"EVAL_INTERVAL {s['EVAL_INTERVAL']} needs --rm-type in EXTRA_ARGS, which judges the answers: the teacher "
            "is no judge"
        )


def _flags(s: Settings) -> list[str]:
    return [word.partition("=")[0] for word in split_words("EXTRA_ARGS", s["EXTRA_ARGS"])]
