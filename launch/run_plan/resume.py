"""May a run that has begun go on with these settings?"""

from __future__ import annotations

from pathlib import Path

from .environment import all_variables
from .opd_variables import GIVEN_BY_THE_RUN, variable_name
from .plan import Suite
from .plan_files import read_variables
from .runs import Run

_RESOLVED = ("METHOD", "MASK", "RATIO")
_MAY_GROW = "NUM_ROLLOUT"


def check_begun_runs(suite: Suite, directory: Path) -> None:
    """Raises ValueError naming the run, the variable, its value there and here, where a run that has begun would go on
    with a setting that changes its results."""
    for run in suite.runs:
        folder = directory / "runs" / run.name
        if (folder / "state.tsv").is_file():
            _check(run, folder)


def _check(run: Run, folder: Path) -> None:
    there, trained = read_variables(folder), status_of(folder, "train") in ("ok", "skip")
    for name in frozen_names(run):
        old, new = there.get(name, ""), run.variables.get(name, "")
        if _same(name, old, new) or (name == _MAY_GROW and not trained and _only_grows(run, old, new)):
            continue
        state = "finished" if status_of(folder, "done") == "ok" else "begun"
        why = " (its training has ended, and would not go on)" if name == _MAY_GROW and trained else ""
        raise ValueError(
            f"{name} of the {state} run {run.name} is {old!r} in {folder}, and {new!r} here{why}; keep it, or "
            "choose another TAG"
        )


def frozen_names(run: Run) -> list[str]:
    """Variables on which the run's results depend. A teacher that only TEACHER_URL names is named by it."""
    kept = [v.name for v in all_variables().values() if v.frozen]
    assert not {variable_name(field) for field in GIVEN_BY_THE_RUN} & set(kept)
    return [*_RESOLVED, "SEED", *kept, *(() if run.variables["TEACHER_MODEL"] else ("TEACHER_URL",))]


def status_of(folder: Path, stage: str) -> str:
    """The status in the last whole line about the stage, or nothing."""
    lines = (folder / "state.tsv").read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    found = [parts[1] for parts in (line.split("\t") for line in lines) if len(parts) >= 3 and parts[0] == stage]
    return found[-1] if found else ""


def _same(name: str, old: str, new: str) -> bool:
    """Numbers are compared by value: 0.000001 is 1e-6."""
    if old and new and name in all_variables() and all_variables()[name].kind == "number":
        return float(old) == float(new)
    return old == new


def _only_grows(run: Run, old: str, new: str) -> bool:
    """More rollouts leave the first ones as they were, unless the learning rate follows their number."""
    return int(new) > int(old or 0) and "--lr-" not in run.variables["EXTRA_ARGS"]
