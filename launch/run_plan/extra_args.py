"""Words of EXTRA_ARGS that train_opd.py would refuse, found before a teacher is started."""

from __future__ import annotations

from dataclasses import fields

from ta_opd.option_fields import did_you_mean, flag
from ta_opd.slime_options import SlimeOptions

from .environment import Settings
from .kinds import split_words

SLIME_FLAGS = ("--opd-type", "--opd-kl-coef", "--opd-teacher-load", "--opd-teacher-ckpt-step")
"""slime's own flags that begin like ours."""

_SAMPLING = ("--rollout-temperature", "--rollout-top-p", "--rollout-top-k")


def check_extra_args(s: Settings) -> None:
    """Raises ValueError for a flag that begins like ours and is nobody's, and for one that changes how samples are
    drawn."""
    known = {flag(f.name) for f in fields(SlimeOptions)} | set(SLIME_FLAGS)
    for name in _flags(s):
        dashed = name.replace("_", "-")
        if dashed.startswith("--opd-") and name not in known:
            raise ValueError(f"EXTRA_ARGS: unknown flag {name}{did_you_mean(dashed, known)}")
        if dashed in _SAMPLING:
            raise ValueError(
                f"EXTRA_ARGS: {name}: an SGLang teacher scores given tokens at temperature 1 over the whole vocabulary "
                "whatever it is asked, so student and teacher would be compared under different distributions"
            )


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
