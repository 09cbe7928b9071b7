"""Our settings as slime's arguments hold them; read by the rollout side and by the trainer."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import fields

from ta_opd.option_fields import PREFIX, did_you_mean
from ta_opd.slime_options import SlimeOptions

SLIME_OPTIONS = ("opd_type", "opd_kl_coef", "opd_teacher_load", "opd_teacher_ckpt_step")
"""slime's own settings that begin like ours."""


def slime_options(args: Namespace) -> SlimeOptions:
    """Our settings from slime's arguments, however they came there (flags of train_opd.py, --custom-config-path).

    Raises ValueError for a value out of range and for an `opd_...` attribute that nobody knows.
    """
    known = {PREFIX + f.name for f in fields(SlimeOptions)} | set(SLIME_OPTIONS)
    for name in vars(args):
        if name.startswith(PREFIX) and name not in known:
            raise ValueError(f"unknown option {name}{did_you_mean(name, known)}")
    return SlimeOptions.from_namespace(args)
