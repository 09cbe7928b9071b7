"""A suite as it will run: every setting resolved and checked, a Run for each entry and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .environment import Settings, read_settings
from .existence import check_models_dir, check_teacher_there, check_there
from .extra_args import check_evaluation, check_extra_args
from .layout import Layout, check_ray_address, check_teacher_context, layout_of, teacher_layout
from .model_sizes import student_architecture
from .paths import check_ray_temp_dir, suite_dir
from .resolve import resolve
from .runs import Run, runs_of

_NEEDED = ("SLIME_DIR", "STUDENT_HF", "STUDENT_TORCH_DIST", "STUDENT_MODEL_SCRIPT", "PROMPT_DATA")
_HELP = {
    "SLIME_DIR": "a slime checkout with the patch",
    "STUDENT_TORCH_DIST": "tools/convert_hf_to_torch_dist.py makes it; with MODELS_DIR it is looked for there",
}


@dataclass(frozen=True)
class Suite:
    variables: dict[str, str]
    runs: tuple[Run, ...]


def plan_suite(
    environment: Mapping[str, str], directory: Path | None = None, dry_run: bool = False, teacher_only: bool = False
) -> Suite:
    """directory: SUITE_DIR; None: TAG in OUTPUT_ROOT. dry_run: a path that is not there is no mistake. teacher_only:
    what only training needs is not asked for.

    Raises ValueError with one line naming the variable, its value and what is allowed.
    """
    settings = read_settings(environment)
    directory = suite_dir(environment) if directory is None else directory
    settings = resolve(settings, directory)
    check_models_dir(settings, dry_run)
    if settings["BACKEND"] == "local":
        layout = None
        if not dry_run:
            check_there(settings)
    elif teacher_only:
        layout = _for_a_teacher(settings, dry_run)
    else:
        layout = _for_training(settings, dry_run)
    return Suite(settings.values | {"SUITE_DIR": str(directory)}, tuple(runs_of(settings, directory, layout)))


def _for_a_teacher(s: Settings, dry_run: bool) -> Layout:
    _check_needed(s, ("TEACHER_MODEL",))
    if s["TEACHER_URL"]:
        raise ValueError(f"TEACHER_URL {s['TEACHER_URL']!r}: that teacher runs already; unset it to start one")
    if not dry_run:
        check_teacher_there(s)
    return teacher_layout(s)


def _for_training(s: Settings, dry_run: bool) -> Layout:
    _check_needed(s, (*_NEEDED, *(() if s["TEACHER_URL"] else ("TEACHER_MODEL",))))
    _check_companions(s)
    check_extra_args(s)
    check_ray_address(s)
    check_teacher_context(s)
    layout = layout_of(s)
    if not s["RAY_ADDRESS"]:
        check_ray_temp_dir(s["RAY_TEMP_DIR"])
    if not dry_run:
        check_there(s)
    _check_student(s)
    return layout


def _check_needed(s: Settings, names: tuple[str, ...]) -> None:
    missing = [name for name in names if not s[name]]
    if missing:
        reasons = [f"{name} ({_HELP[name]})" if name in _HELP else name for name in missing]
        hint = "" if s["PAIR"] else "; PAIR sets the models"
        raise ValueError(f"not set: {', '.join(reasons)}{hint}")


def _check_companions(s: Settings) -> None:
    """Raises ValueError for a setting that does nothing, or cannot work, without another."""
    if s.number("EVAL_INTERVAL"):
        check_evaluation(s)
    if s["EVAL_PROMPT_DATA"] and not s.number("EVAL_INTERVAL"):
        raise ValueError(f"EVAL_PROMPT_DATA {s['EVAL_PROMPT_DATA']!r} does nothing without EVAL_INTERVAL")
    if s["BASELINE_METRICS"] and not s["COMMON_CONTEXT"]:
        raise ValueError(f"BASELINE_METRICS {s['BASELINE_METRICS']!r} does nothing without COMMON_CONTEXT")
    if s["COMMON_CONTEXT"] and not s.is_on("SKIP_EVAL") and not s["TEACHER_MODEL"]:
        raise ValueError(
            f"COMMON_CONTEXT {s['COMMON_CONTEXT']!r} needs TEACHER_MODEL, which scores it; or set SKIP_EVAL=1"
        )


def _check_student(s: Settings) -> None:
    """Raises ValueError where the student's sizes are known and Megatron could not split it."""
    try:
        student = student_architecture(s.values)
    except ValueError:  # not there yet, or of a kind whose sizes are not known here
        return
    student.check_parallel(s.number("TENSOR_PARALLEL"), s.number("PIPELINE_PARALLEL"))
