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
    there, finished = read_variables(folder), is_finished(folder)
    for name in frozen_names():
        old, new = there.get(name, ""), run.variables.get(name, "")
        if old == new or (name == _MAY_GROW and not finished and _only_grows(run, old, new)):
            continue
        state = "finished" if finished else "begun"
        raise ValueError(
            f"{name} of the {state} run {run.name} is {old!r} in {folder}, and {new!r} here; keep it, or "
            "choose another TAG"
        )


def frozen_names() -> list[str]:
    """Variables on which a run's results depend."""
    kept = [v.name for v in all_variables().values() if v.frozen]
    assert not {variable_name(field) for field in GIVEN_BY_THE_RUN} & set(kept)
    return [*_RESOLVED, "SEED", *kept]


def is_finished(folder: Path) -> bool:
    """The last whole line about the stage `done` says ok."""
    lines = (folder / "state.tsv").read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    done = [parts[1] for parts in (line.split("\t") for line in lines) if len(parts) >= 2 and parts[0] == "done"]
    return bool(done) and done[-1] == "ok"


def _only_grows(run: Run, old: str, new: str) -> bool:
    """More rollouts leave the first ones as they were, unless the learning rate follows their number."""
    return int(new) > int(old or 0) and "--lr-" not in run.variables["EXTRA_ARGS"]
