"""A Hugging Face model on disk: what must be there, and the completion of one that slime's tool has written."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from .command_line import ToolFailed

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
# Weights in the origin folder that slime's tool copies beside the new ones; some loaders would prefer them.
STALE_WEIGHTS = ("*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx")
TIED_HEAD = "lm_head.weight"

Shapes = dict[str, list[int]]


@dataclass(frozen=True)
class Summary:
    tensors: int
    shards: int
    size: int  # bytes

    def __str__(self) -> str:
        return f"{self.tensors} tensors, {self.size / 1e9:.2f} GB in {self.shards} shards"


def check_origin(folder: Path) -> None:
    """Raises ValueError unless the folder can lend its configuration."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"--origin-hf-dir {folder} is no Hugging Face model: no config.json in it")


def complete(folder: Path, origin: Path) -> None:
    """Takes old weights away that came with the origin's files, and adds the origin's small files that are missing."""
    for pattern in STALE_WEIGHTS:
        for path in folder.glob(pattern):
            path.unlink()
    for path in sorted(origin.iterdir()):
        weights = path.name in (INDEX, SINGLE) or any(path.match(it) for it in ("*.safetensors", *STALE_WEIGHTS))
        if path.is_file() and not weights and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def check_model(folder: Path, origin: Path) -> Summary:
    """The written model against its own index and the origin's tensors.

    Raises:
        ToolFailed: no config.json, a shard or tensor of the index that is not there, a tensor of the origin that was
            not converted, or one of another shape. (Where word embeddings are tied, lm_head may come or go.)
    """
    if not (folder / "config.json").is_file():
        raise ToolFailed("the converted model has no config.json")
    files = _weight_map(folder)
    found: Shapes = {}
    for name in sorted(set(files.values())):
        if not (folder / name).is_file():
            raise ToolFailed(f"the converted model's index names {name}, which is not there")
        found |= _shapes(folder / name)
    lost = sorted(files.keys() - found.keys())
    if lost:
        raise ToolFailed(f"the converted model's index names tensors that no shard has: {_some(lost)}")
    _compare(found, _origin_shapes(origin), tied=_tied(folder))
    size = sum((folder / name).stat().st_size for name in set(files.values()))
    return Summary(len(files), len(set(files.values())), size)


def _compare(found: Shapes, wanted: Shapes, tied: bool) -> None:
    missing = sorted(wanted.keys() - found.keys() - ({TIED_HEAD} if tied else set()))
    if missing:
        raise ToolFailed(f"{len(missing)} of the origin's {len(wanted)} tensors were not converted: {_some(missing)}")
    differ = [name for name in sorted(wanted.keys() & found.keys()) if wanted[name] != found[name]]
    if differ:
        shapes = [f"{name} {found[name]} (origin: {wanted[name]})" for name in differ]
        raise ToolFailed(f"{len(differ)} tensors have not the origin's shape: {_some(shapes)}")


def _weight_map(folder: Path) -> dict[str, str]:
    """Tensor -> file, from the index or the single file."""
    if (folder / INDEX).is_file():
        try:
            files = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        except (json.JSONDecodeError, KeyError) as error:
            raise ToolFailed(f"the converted model's {INDEX} is torn: {error!r}") from error
    elif (folder / SINGLE).is_file():
        files = dict.fromkeys(_shapes(folder / SINGLE), SINGLE)
    else:
        files = {}
    if not files:
        raise ToolFailed(f"the converted model has no tensors: neither {INDEX} nor {SINGLE} names one")
    return files


def _origin_shapes(origin: Path) -> Shapes:
    """Empty when the origin has no safetensors files to compare with."""
    shapes: Shapes = {}
    for path in sorted(origin.glob("*.safetensors")):
        shapes |= _shapes(path)
    return shapes


def _shapes(path: Path) -> Shapes:
    """Name -> shape, from the file's header alone."""
    from safetensors import SafetensorError, safe_open  # a dry run does without it

    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ToolFailed(f"{path.name} is no whole safetensors file: {error}") from error


def _tied(folder: Path) -> bool:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return bool(config.get("tie_word_embeddings", config.get("text_config", {}).get("tie_word_embeddings", False)))


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
