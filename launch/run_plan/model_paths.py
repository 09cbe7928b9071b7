"""Where a model is: a folder, a name on the Hugging Face hub, or a folder of MODELS_DIR."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .paths import absolute


def local_model(model: str, models_dir: str) -> str:
    """A folder's absolute path, in MODELS_DIR looked for by the whole name, then by its last part; else the name."""
    if not model:
        return ""
    if models_dir and not Path(model).is_absolute():
        for name in (model, model.rstrip("/").rpartition("/")[2]):
            if name and (Path(models_dir) / name).is_dir():
                return absolute(str(Path(models_dir) / name))
    return absolute(model) if is_path(model) else model


def is_path(model: str) -> bool:
    """It begins like a path or is a folder here; `owner/name` otherwise is a name on the hub."""
    return model.startswith(("/", "./", "../", "~")) or Path(model).is_dir()


def student_torch_dist(v: Mapping[str, str]) -> str:
    """STUDENT_TORCH_DIST, in MODELS_DIR where a relative one is not here; or `<student>_torch_dist` in MODELS_DIR; or
    nothing, with neither set."""
    if given := v["STUDENT_TORCH_DIST"]:
        return absolute(given if is_path(given) else str(Path(v["MODELS_DIR"]) / given))
    name = v["STUDENT_HF"].rstrip("/").rpartition("/")[2]
    return absolute(str(Path(v["MODELS_DIR"]) / f"{name}_torch_dist")) if name and v["MODELS_DIR"] else ""
