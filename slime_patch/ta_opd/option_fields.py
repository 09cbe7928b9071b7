"""The machinery behind an options dataclass: a field `budget_ratio` is the flag `--opd-budget-ratio` and the YAML key
`opd_budget_ratio`."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, field, fields
from typing import Any

PREFIX = "opd_"


def option(default: Any, help: str, choices: tuple[str, ...] | None = None, kind: type | None = None) -> Any:
    """A dataclass field with what its flag needs."""
    return field(default=default, metadata={"help": help, "choices": choices, "type": kind or type(default)})


def flag(name: str) -> str:
    """budget_ratio -> --opd-budget-ratio"""
    return "--opd-" + name.replace("_", "-")


def check_types(options: Any) -> None:
    """Raises ValueError where a field holds another type or choice; whole numbers become floats where those are asked,
    None becomes an empty text."""
    for f in fields(options):
        value, kind, choices = getattr(options, f.name), f.metadata["type"], f.metadata["choices"]
        if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            object.__setattr__(options, f.name, float(value))
        elif kind is str and value is None and not f.default:
            object.__setattr__(options, f.name, "")
        elif not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ValueError(f"{flag(f.name)} takes {_a(kind)}; got {value!r}")
        if choices and value not in choices:
            raise ValueError(f"{flag(f.name)} {value!r} is not one of {', '.join(choices)}")


def check_range(options: Any, name: str, least: float, most: float = float("inf")) -> None:
    """Raises ValueError unless least <= options.name <= most."""
    value = getattr(options, name)
    if not least <= value <= most:
        bound = f"{least}..{most}" if most != float("inf") else f"{least} or more"
        raise ValueError(f"{flag(name)} {value} is outside {bound}")


def field_values(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """YAML keys, with or without the leading `opd_`, as fields of cls. An unknown key is a ValueError naming the
    nearest."""
    known = {f.name for f in fields(cls)}
    given: dict[str, Any] = {}
    for key, value in values.items():
        name = key.removeprefix("--").replace("-", "_").removeprefix(PREFIX)
        if name not in known:
            raise ValueError(f"unknown option {key!r}{did_you_mean(PREFIX + name, [PREFIX + k for k in known])}")
        if name in given:
            raise ValueError(f"option {key!r} is given twice, with and without opd_")
        given[name] = value
    return given


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def namespace_values(cls: type, args: argparse.Namespace) -> dict[str, Any]:
    """The fields of cls that args has as `opd_<field>`; those it lacks keep their default."""
    return {f.name: getattr(args, PREFIX + f.name) for f in fields(cls) if hasattr(args, PREFIX + f.name)}


def add_flags(parser: argparse.ArgumentParser, cls: type, leave_out: tuple[str, ...] = (), **defaults: Any) -> None:
    """Register every field of cls as its flag, booleans as switches; `defaults` stand in for the fields' own."""
    group = parser.add_argument_group("on-policy distillation")
    for f in fields(cls):
        if f.name in leave_out:
            continue
        assert f.default is not MISSING
        kind, default = f.metadata["type"], defaults.get(f.name, f.default)
        shown = f"{f.metadata['help']} (default: {default if default != '' else 'none'})"
        if kind is bool:
            group.add_argument(flag(f.name), action="store_true", default=default, help=shown)
        else:
            group.add_argument(flag(f.name), type=kind, default=default, choices=f.metadata["choices"], help=shown)


def _a(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[kind]
