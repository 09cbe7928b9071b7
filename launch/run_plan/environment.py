"""The settings that a person gave: defaults, under a pair file, under the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ta_opd.option_fields import did_you_mean

from .kinds import Variable
from .opd_variables import opd_variables
from .pair_files import pair_path, read_pair
from .unknown_names import EXPLAINED, check_names
from .variables import VARIABLES

NOT_IN_A_PAIR = frozenset({"PAIR", "DRY_RUN", "BACKEND"})


@dataclass(frozen=True)
class Settings:
    """values: every variable of the table in its one spelling; empty where nobody gave it and there is no default.
    given: names that the environment set. from_pair: names that the pair file set."""

    values: dict[str, str]
    given: frozenset[str]
    from_pair: frozenset[str]

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def number(self, name: str) -> int:
        return int(self.values[name])

    def is_on(self, name: str) -> bool:
        return self.values[name] == "1"

    def somebody_set(self, name: str) -> bool:
        return name in self.given or name in self.from_pair


def all_variables() -> dict[str, Variable]:
    """The whole table by name."""
    return {variable.name: variable for variable in (*VARIABLES, *opd_variables())}


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Raises ValueError with one line for an unknown name, a value out of range, or a bad pair file. An empty variable
    is one that nobody set."""
    table = all_variables()
    check_names(environment, table)
    given = {name: environment[name] for name in table if environment.get(name)}
    pair = read_pair_settings(pair_path(given["PAIR"]), table) if "PAIR" in given else {}
    values = {name: variable.default for name, variable in table.items()}
    values |= pair | {name: table[name].parse(text) for name, text in given.items()}
    return Settings(values, frozenset(given), frozenset(pair))


def read_pair_settings(path: Path, table: Mapping[str, Variable]) -> dict[str, str]:
    """A pair file's values, each checked. Raises ValueError naming the file and the nearest known name."""
    values = {}
    for name, text in read_pair(path).items():
        if name not in table or name in NOT_IN_A_PAIR:
            reason = f": {EXPLAINED[name]}" if name in EXPLAINED else did_you_mean(name, set(table) - NOT_IN_A_PAIR)
            raise ValueError(f"{path}: unknown variable {name}{reason}")
        if not text:
            continue
        try:
            values[name] = table[name].parse(text)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return values
