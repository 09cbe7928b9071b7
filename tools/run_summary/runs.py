"""The runs of a suite and the settings that each was planned with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from token_bank_merge.broken import Broken


@dataclass(frozen=True)
class RunDirectory:
    """path: RUN_DIR. suite: SUITE_DIR. variables: of its settings.json. problem: why there are none."""

    path: Path
    suite: Path
    variables: dict[str, str] = field(default_factory=dict)
    problem: Broken | None = None

    @property
    def order(self) -> tuple:
        """By suite, index, seed and name; runs without settings come last."""
        index, seed = (self.variables.get(name, "") for name in ("INDEX", "SEED"))
        numbers = [int(text) if text.isdigit() else 1 << 62 for text in (index, seed)]
        return (str(self.suite), *numbers, self.path.name)


def find_runs(directories: Iterable[Path]) -> list[RunDirectory]:
    """Every run once, in order. Raises ValueError for a directory that is neither a suite nor a run."""
    found: dict[Path, RunDirectory] = {}
    for directory in directories:
        if not directory.is_dir():
            raise ValueError(f"{directory}: no such directory")
        path = directory.resolve()
        if is_suite(path):
            inside = [run for run in (path / "runs").iterdir() if run.is_dir()]
        elif (path / "settings.json").exists() or (path / "state.tsv").exists():
            inside = [path]
        else:
            raise ValueError(f"{directory}: neither a suite (no runs/) nor a run (no settings.json, no state.tsv)")
        found |= {run: _run(run) for run in inside}
    return sorted(found.values(), key=lambda run: run.order)


def is_suite(directory: Path) -> bool:
    return (directory / "runs").is_dir()


def _run(path: Path) -> RunDirectory:
    suite = path.parent.parent
    try:
        return RunDirectory(path, suite, _variables(path / "settings.json"))
    except Broken as error:
        return RunDirectory(path, suite, problem=error)


def _variables(path: Path) -> dict[str, str]:
    settings = read_json(path)
    if not isinstance(settings, dict) or not isinstance(settings.get("variables"), dict):
        raise Broken(path, "no settings of a run: it has no variables")
    return {name: str(value) for name, value in settings["variables"].items()}


def read_json(path: Path):
    """Raises Broken for a file that is not there, or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Broken(path, "not there") from error
    except (OSError, ValueError) as error:
        raise Broken(path, f"not readable as JSON: {error}") from error
