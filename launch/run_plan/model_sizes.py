"""How large the models are, where that can be read without loading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .architecture import Architecture, architecture_of
from .model_script import read_model_args
from .paths import model_script

BF16 = 2


@dataclass(frozen=True)
class Weights:
    """bytes: of the weights as they are served. source: where the number comes from."""

    bytes: int
    source: str


def student_architecture(v: Mapping[str, str]) -> Architecture:
    """Of STUDENT_MODEL_SCRIPT. Raises ValueError where it cannot be read or is of another kind."""
    return architecture_of(read_model_args(model_script(v["SLIME_DIR"], v["STUDENT_MODEL_SCRIPT"])))


def teacher_weights(v: Mapping[str, str]) -> Weights:
    """Of TEACHER_MODEL: the safetensors of its folder, else slime's script of the same name at 2 bytes a parameter.

    Raises ValueError saying why neither tells.
    """
    model = v["TEACHER_MODEL"]
    if not model:
        raise ValueError("TEACHER_MODEL is not set")
    files = sorted(Path(model).glob("*.safetensors")) if Path(model).is_dir() else []
    if files:
        return Weights(sum(path.stat().st_size for path in files), f"{len(files)} safetensors files")
    name = model.rstrip("/").rpartition("/")[2].lower()
    for script in sorted((Path(v["SLIME_DIR"]) / "scripts" / "models").glob("*.sh")):
        if script.stem.lower() == name:
            count = architecture_of(read_model_args(script)).parameters()
            return Weights(BF16 * count, f"{count:,} parameters of scripts/models/{script.name} in bf16")
    raise ValueError(f"{model} is no folder with safetensors, and slime has no model script of that name")
