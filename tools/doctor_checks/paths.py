"""Whether the paths that a run names are what they should be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .model_files import TOKENIZER_FILES, BrokenFile, config, weight_bytes, weight_files
from .result import Result, failed, passed, skipped, warned
from .settings import Settings


def check_paths(settings: Settings) -> Iterator[Result]:
    if settings.local_engine:
        yield skipped("models", "BACKEND=local trains its own", "nothing to do")
        return
    yield _model(settings, "student", "STUDENT_HF")
    yield _torch_dist(settings)
    if settings.urls and not settings.text("TEACHER_MODEL"):
        yield skipped("teacher", "running teachers are named", "set TEACHER_MODEL to compare its files too")
    else:
        yield _model(settings, "teacher", "TEACHER_MODEL")


def _model(settings: Settings, check: str, variable: str) -> Result:
    path = settings.model(variable)
    if path is None:
        return settings.unset(check, variable)
    if not path.is_dir():
        if not path.is_absolute() and len(path.parts) <= 2 and not path.exists():
            fix = f"download it once (hf download {path}) and set {variable} to the directory"
            return warned(check, f"{path} is no directory: a name on the hub, fetched when each process starts?", fix)
        return failed(check, f"{path} is no directory", f"correct {variable}")
    try:
        known, missing = config(path), _missing(path)
    except BrokenFile as error:
        return failed(check, str(error), "copy the model again")
    if missing:
        return failed(check, f"{path} lacks {missing}", "copy the model whole; an unfinished download looks like this")
    size = weight_bytes(path)
    assert size is not None
    return passed(check, f"{known.get('model_type', 'model of no type')}, {size / 2**30:.2f} GiB of weights, {path}")


def _missing(path: Path) -> str:
    """What a model directory lacks, in words; empty where it is whole."""
    if not (path / "config.json").is_file():
        return "config.json"
    files = weight_files(path)
    if not files:
        return "weights (*.safetensors)"
    lost = [file.name for file in files if not file.is_file()]
    if lost:
        return f"{len(lost)} of {len(files)} weight files, {lost[0]} for one"
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        return f"a tokenizer ({', '.join(TOKENIZER_FILES)})"
    return ""


def _torch_dist(settings: Settings) -> Result:
    check, path = "student, torch_dist", settings.model("STUDENT_TORCH_DIST")
    fix = "python tools/convert_hf_to_torch_dist.py makes it from STUDENT_HF"
    if path is None:
        return settings.unset(check, "STUDENT_TORCH_DIST")
    tracker = path / "latest_checkpointed_iteration.txt"
    if not tracker.is_file():
        return failed(check, f"{path} has no latest_checkpointed_iteration.txt", fix)
    written = tracker.read_text(encoding="utf-8", errors="replace").strip()
    if written != "release" and not written.isdigit():
        return failed(check, f"{tracker} holds {written[:40]!r}, no iteration", fix)
    folder = path / ("release" if written == "release" else f"iter_{int(written):07d}")
    if not any(folder.glob("*.distcp")):
        return failed(check, f"{tracker.name} says {written}, but {folder} holds no *.distcp", fix)
    if not (folder / ".metadata").is_file():
        return failed(check, f"{folder} has no .metadata: it was not written to the end", fix)
    return passed(check, f"{written} of {path}")
