"""OPD_<FIELD> for every setting of the library: OPD_BUDGET_GAMMA is --opd-budget-gamma."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from ta_opd.option_fields import flag
from ta_opd.options import Options
from ta_opd.slime_options import SlimeOptions

from .kinds import Variable

SUITE_DEFAULTS: Mapping[str, Any] = {"topk_metrics_k": 16}
"""Where a suite's default is not the library's: the paper's K, which every selector but two needs."""

GIVEN_BY_THE_RUN: Mapping[str, str] = {
    "token_bank_dir": "each run has its own, token_bank/ in its folder",
    "teacher_url": "set TEACHER_URL",
}
"""Fields that are not variables, and what to set instead."""

_FREE = frozenset(
    {
        "teacher_concurrency",
        "teacher_request_timeout",
        "teacher_timeout",
        "teacher_attempts",
        "teacher_wire",
        "teacher_quarantine",
        "max_missing",
        "teacher_name",
        "student_name",
        "token_bank_pair_id",
        "token_loss_dir",
    }
)
_DERIVED = {
    "budget_mask": "METHOD_LIST",
    "budget_ratio": "METHOD_LIST",
    "budget_mask_seed": "SEED",
    "teacher_attempts": "6, and enough for TEACHER_WAIT where TEACHER_RESTARTS is not 0",
    "teacher_name": "last part of TEACHER_MODEL",
    "student_name": "last part of STUDENT_HF",
    "token_bank_pair_id": "PAIR's name",
}
_ALWAYS = ("topk_metrics_k", "budget_mask", "budget_ratio", "loss")
_KINDS = {bool: "switch", int: "integer", float: "number", str: "text"}
_PARSERS = {bool: lambda text: text == "1", int: int, float: float, str: str}


FOLDERS_OF_THE_RUN = {"token_loss_dir": "the trainer writes what its loss is at each token into the run's token bank"}
"""Fields that are a folder, and what the variable means: a switch, and the folder is the run's token bank."""


OF_THE_ENGINE = ("budget_mask", "budget_ratio", "token_bank_dir", "token_bank_raw_topk")
"""Fields that the embedded engine sets for each run itself, so that it has no such flags."""


def variable_name(field: str) -> str:
    """budget_ratio -> OPD_BUDGET_RATIO"""
    return "OPD_" + field.upper()


def opd_variables() -> tuple[Variable, ...]:
    """A variable a field. Ranges are SlimeOptions' own business: its messages name the flag."""
    rows = []
    for f in fields(SlimeOptions):
        if f.name in GIVEN_BY_THE_RUN:
            continue
        switch, derived = f.name in FOLDERS_OF_THE_RUN, _DERIVED.get(f.name, "")
        default = "" if derived else "0" if switch else text_of(SUITE_DEFAULTS.get(f.name, f.default))
        rows.append(
            Variable(
                variable_name(f.name),
                "selection, losses, teacher client",
                default,
                "switch" if switch else _KINDS[f.metadata["type"]],
                FOLDERS_OF_THE_RUN.get(f.name, f.metadata["help"]),
                choices=() if switch else f.metadata["choices"] or (),
                frozen=f.name not in _FREE,
                derived=derived,
            )
        )
    return tuple(rows)


def text_of(value: Any) -> str:
    """A field's value as a variable's."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def field_values_of(values: Mapping[str, str]) -> dict[str, Any]:
    """The fields that the variables set, in the fields' types. Raises ValueError naming the variable."""
    given = {}
    for f in fields(SlimeOptions):
        text = values.get(variable_name(f.name), "")
        if text:
            given[f.name] = _PARSERS[f.metadata["type"]](text)
    return given


def with_variable_names(message: str) -> str:
    """SlimeOptions' message with the variable in front of each flag that it names."""
    names = {flag(f.name): variable_name(f.name) for f in fields(SlimeOptions)}
    return " ".join(f"{names[word]} ({word})" if word in names else word for word in message.split(" "))


def flags_of(options: Options, left_out: Collection[str] = ()) -> list[str]:
    """The words of train_opd.py's command line: every field that is not its default, and what says which run it is."""
    words = []
    for f in fields(options):
        value = getattr(options, f.name)
        if f.name in left_out or (f.name not in _ALWAYS and value == f.default):
            continue
        if isinstance(value, bool):
            words.append(flag(f.name))
        else:
            words += [flag(f.name), str(value)]
    return words


def config_of(options: Options) -> dict[str, Any]:
    """The same settings as keys of slime's --custom-config-path."""
    return {
        "opd_" + f.name: getattr(options, f.name)
        for f in fields(options)
        if f.name in _ALWAYS or getattr(options, f.name) != f.default
    }
