"""Whether the files and folders that the settings name are there. Names on the Hugging Face hub are not looked up."""

from __future__ import annotations

from pathlib import Path

from ta_opd.option_fields import did_you_mean

from .environment import Settings
from .model_paths import is_path
from .paths import model_script


def check_there(s: Settings) -> None:
    """Raises ValueError with the variable, its value and what is missing."""
    if s["BACKEND"] == "slime":
        _check_slime(s["SLIME_DIR"])
        _folder("MEGATRON_LM_DIR", s["MEGATRON_LM_DIR"])
        _folder("STUDENT_TORCH_DIST", s["STUDENT_TORCH_DIST"])
        _model("STUDENT_HF", s["STUDENT_HF"])
        _check_script(s)
        check_teacher_there(s)
    for name in ("PROMPT_DATA", "COMMON_CONTEXT", "BASELINE_METRICS"):
        path = s[name].partition("@[")[0]  # slime's own slice: file.jsonl@[0:100]
        if path:
            _file(name, s[name], Path(path))


def check_teacher_there(s: Settings) -> None:
    """The same for what starting the teacher alone needs."""
    _model("TEACHER_MODEL", s["TEACHER_MODEL"])


def _check_script(s: Settings) -> None:
    script = model_script(s["SLIME_DIR"], s["STUDENT_MODEL_SCRIPT"])
    if not script.is_file():
        near = did_you_mean(script.stem, sorted(path.stem for path in script.parent.glob("*.sh")))
        raise ValueError(f"STUDENT_MODEL_SCRIPT {s['STUDENT_MODEL_SCRIPT']!r}: there is no {script}{near}")


def _check_slime(directory: str) -> None:
    _folder("SLIME_DIR", directory)
    for file, fault in (
        ("train.py", "is no slime checkout"),
        ("train_opd.py", "has no patch, `python tools/install_patch.py apply` installs it"),
    ):
        if not (Path(directory) / file).is_file():
            raise ValueError(f"SLIME_DIR {directory!r} {fault}: there is no {file}")


def _model(name: str, model: str) -> None:
    if is_path(model):
        _folder(name, model)


def _file(name: str, text: str, path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{name} {text!r} is a folder, not a file")
    if not path.is_file():
        raise ValueError(f"{name} {text!r}: there is no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{name} {text!r} is empty: it has 0 bytes")


def check_models_dir(s: Settings, dry_run: bool) -> None:
    """Raises ValueError where MODELS_DIR is something else than a folder; a dry run may name one that is not there."""
    if not dry_run or Path(s["MODELS_DIR"]).exists():
        _folder("MODELS_DIR", s["MODELS_DIR"])


def _folder(name: str, path: str) -> None:
    if path and not Path(path).is_dir():
        what = "is not a folder" if Path(path).exists() else "there is no such folder"
        raise ValueError(f"{name} {path!r}: {what}")
