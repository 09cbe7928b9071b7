"""The settings of every bank from its config.json, and the manifest beside the merged table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .broken import Broken

NO_DIFFERENCE = ("token_bank_dir", "token_bank_format")
"""Options that say where and how a table is kept, not what is in it."""


@dataclass(frozen=True)
class BankConfig:
    """What config.json says. options: None where there is no config.json; rows: by file name."""

    options: dict[str, Any] | None = None
    rows: dict[str, int] = field(default_factory=dict)


def read_config(bank: Path) -> BankConfig:
    """Raises Broken for a config.json that is cut off or is not a bank's."""
    path = bank / "config.json"
    if not path.exists():
        return BankConfig()
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Broken(path, f"not readable as JSON: {error}") from error
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict) for key in ("options", "rollouts")):
        raise Broken(path, "no token bank's config.json: it has no options and rollouts")
    options = {name: value for name, value in config["options"].items() if name not in NO_DIFFERENCE}
    return BankConfig(options, config["rollouts"])


def differing(options: Mapping[str, Mapping[str, Any] | None]) -> dict[str, dict[str, Any]]:
    """By name of an option, its value in each run, for the options in which runs differ; null where not known."""
    known = [run for run in options.values() if run is not None]
    names = sorted({name for run in known for name in run})
    by_name = {
        name: {run: None if values is None else values.get(name) for run, values in sorted(options.items())}
        for name in names
    }
    return {
        name: values
        for name, values in by_name.items()
        if len({json.dumps(value, sort_keys=True) for value in values.values()}) > 1
    }


def manifest(
    banks: Mapping[str, Path],
    options: Mapping[str, Mapping[str, Any] | None],
    rows: Sequence[tuple[str, str, int]],
    columns: Sequence[str],
    skipped: Iterable[Broken],
) -> dict[str, Any]:
    """banks, options: by run. rows: (run, file name, rows) of each rollout, in the order of the table."""
    return {
        "rows": sum(count for _, _, count in rows),
        "columns": list(columns),
        "differing_options": differing(options),
        "runs": {
            run: {
                "directory": str(bank),
                "rollouts": {name: count for of, name, count in rows if of == run},
                "options": options[run],
            }
            for run, bank in sorted(banks.items())
        },
        "skipped": [{"file": str(broken.path), "reason": broken.reason} for broken in skipped],
    }
