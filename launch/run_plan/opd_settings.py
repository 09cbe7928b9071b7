"""What the library is set to in one run: the method's file under OPD_* variables, with METHOD_LIST's mask and ratio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from ta_opd.loss_plan import is_dense
from ta_opd.option_fields import flag
from ta_opd.options import Options
from ta_opd.slime_options import OF_A_DENSE_LOSS, SlimeOptions

from .opd_variables import SUITE_DEFAULTS, field_values_of, variable_name, with_variable_names


def options_of(method: Mapping[str, Any], given: Mapping[str, str], run: Mapping[str, Any]) -> SlimeOptions:
    """method: fields that the method's file sets. given: OPD_* variables that somebody set, as text. run: fields that
    belong to the run, which come last.

    Raises ValueError naming the variable and the flag: a value out of range, a setting that does nothing.
    """
    values = {**SUITE_DEFAULTS, **method, **field_values_of(given), **run}
    try:
        options = SlimeOptions(**values)
        # A top-k loss of any kind takes its K from it inside slime.
        (replace(options, loss_top_k=0) if is_dense(options) else options).check_read()
        _check_dense(options)
        _check_k(options)
    except ValueError as error:
        raise ValueError(with_variable_names(str(error))) from error
    return options


def local_options_of(method: Mapping[str, Any], given: Mapping[str, str], run: Mapping[str, Any]) -> Options:
    """The same for the embedded engine, which has no server, trainer or carrier to set. Raises ValueError too for a
    variable that only slime reads."""
    known = {f.name for f in fields(Options)}
    for f in fields(SlimeOptions):
        if f.name not in known and variable_name(f.name) in given:
            raise ValueError(f"{variable_name(f.name)} {given[variable_name(f.name)]} does nothing with BACKEND=local")
    values = {**SUITE_DEFAULTS, **method, **field_values_of(given), **run}
    try:
        options = Options(**{name: value for name, value in values.items() if name in known})
        options.check_read()
        _check_k(options)
    except ValueError as error:
        raise ValueError(with_variable_names(str(error))) from error
    return options


def _check_k(options: Options) -> None:
    if options.topk_metrics_k == 0:
        raise ValueError("--opd-topk-metrics-k 0: a suite's token bank holds scores, so 1 or more; the paper uses 16")


def _check_dense(options: SlimeOptions) -> None:
    if is_dense(options):
        return
    for f in fields(options):
        value = getattr(options, f.name)
        if f.name in OF_A_DENSE_LOSS and value != f.default:
            raise ValueError(f"{flag(f.name)} {value} does nothing with --opd-loss {options.loss}")
