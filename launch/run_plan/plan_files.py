"""What `prepare` writes: the suite's and each run's settings, each file whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import yaml
from ta_opd.files import write_json, write_text

from .environment import all_variables
from .kinds import split_words
from .opd_variables import config_of, flags_of
from .plan import Suite
from .runs import Run

FORMAT_VERSION = 1


def is_words(name: str) -> bool:
    """The variable is a list of words, which bash gets as an array too."""
    variable = all_variables().get(name)
    return variable is not None and variable.kind == "words"


def write_suite(suite: Suite, directory: Path) -> None:
    """Write everything into directory, which is the suite's own but for a dry run."""
    (directory / "runs").mkdir(parents=True, exist_ok=True)
    for run in suite.runs:
        write_run(run, directory / "runs" / run.name)
    _write_settings(suite.variables, directory)
    write_text(directory / "method_mapping.csv", method_mapping(suite))


def write_run(run: Run, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    write_text(folder / "opd_args", "".join(f"{word}\n" for word in flags_of(run.options, run.left_out)))
    write_text(folder / "opd.yaml", yaml.safe_dump(config_of(run.options), sort_keys=False, allow_unicode=True))
    _write_settings(run.variables, folder)


def _write_settings(variables: Mapping[str, str], folder: Path) -> None:
    write_text(folder / "settings.env", settings_env(variables))
    write_json(folder / "settings.json", {"format_version": FORMAT_VERSION, "variables": dict(variables)})


def settings_env(variables: Mapping[str, str]) -> str:
    """`NAME=value` lines that bash sources, by group; a list of words is there once more, as an array."""
    table = all_variables()
    groups: dict[str, list[str]] = {}
    for name in sorted(variables):
        group = table[name].group if name in table else "resolved"
        lines = groups.setdefault(group, [])
        lines.append(f"{name}={shlex.quote(variables[name])}")
        if is_words(name):
            lines.append(f"{name}_WORDS=({shlex.join(split_words(name, variables[name]))})")
    order = [*dict.fromkeys(variable.group for variable in table.values()), "resolved"]
    parts = [f"# {group}\n" + "\n".join(groups[group]) + "\n" for group in order if group in groups]
    return "\n".join(parts)


def method_mapping(suite: Suite) -> str:
    """The released table: method,mask,ratio,idx,notes, a line an entry."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["method", "mask", "ratio", "idx", "notes"])
    for entry in dict.fromkeys(run.entry for run in suite.runs):
        table.writerow([entry.method, entry.mask, entry.ratio, entry.index, entry.notes])
    return text.getvalue()


def read_variables(folder: Path) -> dict[str, str]:
    """A run's or suite's settings as they were written. Raises ValueError where there are none."""
    path = folder / "settings.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{folder} has no settings.json: `run_plan prepare` writes it") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if saved.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{path} has format {saved.get('format_version')!r}; this version reads {FORMAT_VERSION}")
    return saved["variables"]
