"""One run as one record: every column, None where the run lacks it, and notes that say why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from local_engine.suite import Method, Run
from ta_opd import find_selector
from token_bank_merge.broken import Broken
from token_bank_merge.inputs import is_bank

from .bank import KEPT_MEANS, read_counts, read_means
from .gain import METRICS, Gain, engine_gain, metrics_gain
from .runs import RunDirectory, read_json
from .state import Step, read_state, status_of, train_seconds

COLUMNS = (
    "suite",
    "run",
    "method",
    "mask",
    "ratio",
    "idx",
    "seed",
    "status",
    "rollouts",
    "num_rollout",
    "valid_tokens",
    "kept_tokens",
    "keep_ratio",
    "reverse_kl_first",
    "reverse_kl_last",
    *(f"kept_{name}" for name in KEPT_MEANS),
    "gain",
    "gain_low",
    "gain_high",
    "train_seconds",
    "log",
    "notes",
)
Record = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a run's numbers are. engine: the embedded engine's output and the run's identity there, if it is one."""

    bank: Path
    engine: Path | None = None
    identity: dict[str, Any] | None = None


def run_record(run: RunDirectory) -> Record:
    """What is broken leaves its cells None and a note; nothing else of the run or of other runs is hidden by it."""
    record: Record = dict.fromkeys(COLUMNS)
    notes: list[str] = []

    def tried(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except Broken as error:
            notes.append(_short(error, run.suite))
            return None

    record |= {"suite": run.suite.name, "run": run.path.name}
    if run.problem is not None:
        notes.append(_short(run.problem, run.suite))
    record |= _settings(run, notes)
    steps = tried(lambda: read_state(run.path / "state.tsv"))
    if steps is not None:
        record["status"] = status_of(steps)
        record["train_seconds"], note = train_seconds(steps)
        notes += [note] if note else []
    place = _place(run, record, notes)
    _add_counts(record, place, run, steps, tried, notes)
    if place.engine is not None:
        record["num_rollout"] = tried(lambda: _engine_steps(place.engine))
    gain = tried(lambda: _gain(run, place))
    if gain is not None:
        record |= {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high}
    record["log"] = _log(run)
    return record | {"notes": notes}


def _settings(run: RunDirectory, notes: list[str]) -> Record:
    """method, mask, ratio, idx, seed and the rollouts planned, as the settings have them."""
    read = {
        "method": ("METHOD", str),
        "mask": ("MASK", str),
        "ratio": ("RATIO", float),
        "idx": ("INDEX", int),
        "seed": ("SEED", int),
        "num_rollout": ("NUM_ROLLOUT", int),
    }
    found: Record = {}
    for column, (name, kind) in read.items():
        text = run.variables.get(name)
        try:
            found[column] = kind(text) if text else None
        except ValueError:
            notes.append(f"settings.json: {name} {text!r} is not a number")
    return found


def _place(run: RunDirectory, record: Record, notes: list[str]) -> Place:
    if run.variables.get("BACKEND") != "local":
        return Place(run.path / "token_bank")
    engine = run.suite / "engine"
    if None in (record["method"], record["ratio"], record["seed"]):
        return Place(run.path / "token_bank")
    try:
        selector = find_selector(record["method"])
    except ValueError as error:
        notes.append(f"settings.json: {error}")
        return Place(run.path / "token_bank")
    named = Run(Method(selector.name, selector.mask, record["ratio"]), record["seed"])
    return Place(engine / "runs" / named.directory / "token_bank", engine, named.identity)


def _add_counts(
    record: Record, place: Place, run: RunDirectory, steps: list[Step] | None, tried: Callable, notes: list[str]
) -> None:
    if not (place.bank.is_dir() and (is_bank(place.bank) or (place.bank / "summary.csv").exists())):
        trained = any((step.stage, step.status) == ("train", "ok") for step in steps or [])
        notes += ["no token bank"] if trained else []
        return
    counts = tried(lambda: read_counts(place.bank))
    if counts is None:
        return
    record |= {"rollouts": len(counts.rows), "valid_tokens": counts.valid, "kept_tokens": counts.kept}
    record["keep_ratio"] = counts.kept / counts.valid if counts.valid else None
    means = read_means(place.bank, counts)
    notes += [_short(problem, run.suite) for problem in means.problems]
    record |= {"reverse_kl_first": means.reverse_kl_first, "reverse_kl_last": means.reverse_kl_last}
    record |= {f"kept_{name}": value for name, value in means.kept.items()}


def _engine_steps(engine: Path) -> int | None:
    path = engine / "settings.json"
    if not path.exists():
        return None
    try:
        return int(read_json(path)["engine"]["steps"])
    except (KeyError, TypeError, ValueError) as error:
        raise Broken(path, f"no settings of the embedded engine: {error!r}") from error


def _gain(run: RunDirectory, place: Place) -> Gain | None:
    if (run.path / METRICS).exists():
        return metrics_gain(run.path / METRICS)
    if place.engine is None or place.identity is None:
        return None
    return engine_gain(place.engine, *(place.identity[name] for name in ("method", "ratio", "seed")))


def _log(run: RunDirectory) -> str | None:
    """The training log if it is there: its path in the suite, or the whole path where it is elsewhere."""
    folder = Path(run.variables.get("LOG_DIR") or run.path / "logs")
    for path in (folder / "train.log", run.path / "logs" / "train.log"):
        if path.exists():
            return str(path.relative_to(run.suite)) if path.is_relative_to(run.suite) else str(path)
    return None


def _short(problem: Broken, suite: Path) -> str:
    path = problem.path.relative_to(suite) if problem.path.is_relative_to(suite) else problem.path
    return f"{path}: {problem.reason}"
