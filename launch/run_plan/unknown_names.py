"""Variables in the environment that nobody reads but that look like ours: a misspelt setting must not pass silently.

Two rules. Whatever begins with OPD_, TEACHER_, STUDENT_, ROLLOUT_ or ACTOR_ is ours or wrong. Any other name is wrong
if it is one letter away from one of ours. Ray, SGLang, Weights & Biases, Kubernetes and CI read variables of their own
that begin like some of ours: those prefixes are not claimed, and what is one letter away on purpose is listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ta_opd.option_fields import did_you_mean

from .opd_variables import GIVEN_BY_THE_RUN, variable_name

CLAIMED = ("OPD_", "TEACHER_", "STUDENT_", "ROLLOUT_", "ACTOR_")

OTHERS = frozenset({"SLIME_DIRS", "MODEL_DIR"})
"""Others' names one letter away from ours: of this repository's own tests, and one that many programs read."""

_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
"""What Kubernetes puts into every container for each service of its namespace."""

_SHORTEST = 9
"""Shorter names have neighbours by chance: LR, TAG, SEED, PYTHON, LOG_DIR."""

EXPLAINED = {
    "DRYRUN": "set DRY_RUN",
    "METHOD": "set METHOD_LIST",
    "RATIO": "set METHOD_LIST, whose entries are method:ratio:index",
    "METHODS": "read by run_budget_sweep.sh alone; set METHOD_LIST",
    "RATIOS": "read by run_budget_sweep.sh alone; set METHOD_LIST",
    "OPD_TYPE": "the launchers run slime's --opd-type sglang, a teacher behind a server",
    "OPD_TEACHER_LOAD": "it goes with slime's --opd-type megatron; here the teacher is behind a server",
    "OPD_TEACHER_CKPT_STEP": "it goes with slime's --opd-type megatron; here the teacher is behind a server",
    **{variable_name(field): reason for field, reason in GIVEN_BY_THE_RUN.items()},
}


def check_names(environment: Mapping[str, str], known: Iterable[str]) -> None:
    """Raises ValueError naming the first variable that looks like ours and is not, and the nearest that is."""
    known = set(known)
    for name in sorted(set(environment) - known - OTHERS):
        if name in EXPLAINED:
            if environment[name]:
                raise ValueError(f"{name} {environment[name]!r} is not a setting of a suite: {EXPLAINED[name]}")
            continue
        if _SERVICE_LINK.search(name):
            continue
        near = [other for other in known if len(other) >= _SHORTEST and one_edit_apart(name, other)]
        if name.startswith(CLAIMED) or near:
            raise ValueError(f"unknown variable {name}{did_you_mean(name, near or known)}")


def one_edit_apart(a: str, b: str) -> bool:
    """One letter more, less, or other, or two neighbours swapped."""
    if abs(len(a) - len(b)) > 1 or a == b:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    rest_a, rest_b = a[start:], b[start:]
    return (
        rest_a[1:] == rest_b
        or rest_a == rest_b[1:]
        or rest_a[1:] == rest_b[1:]
        or (rest_a[2:] == rest_b[2:] and rest_a[:2] == rest_b[:2][::-1])
    )
