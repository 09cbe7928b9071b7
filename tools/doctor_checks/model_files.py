"""What a Hugging Face directory says of its model, read without transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


class BrokenFile(ValueError):
    """A file of a model that cannot be read for what it should be."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is no file. Raises BrokenFile for anything else than an object."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BrokenFile(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise BrokenFile(f"{path} is no JSON object")
    return data


def config(model: Path) -> dict[str, Any]:
    """config.json, of a multimodal model its text part."""
    whole = read_json(model / "config.json")
    return {**whole, **whole["text_config"]} if isinstance(whole.get("text_config"), dict) else whole


def weight_files(model: Path) -> list[Path]:
    """Every weight file that the index names, or those that lie there."""
    for kind in ("safetensors", "bin"):
        for index in sorted(model.glob(f"*.{kind}.index.json")):
            return [model / name for name in sorted(set(read_json(index).get("weight_map", {}).values()))]
        found = sorted(path for path in model.glob(f"*.{kind}") if path.name != "training_args.bin")
        if found:
            return found
    return []


def weight_bytes(model: Path) -> int | None:
    """Bytes of all weights; None where there are none, or not all."""
    files = weight_files(model)
    return sum(path.stat().st_size for path in files) if files and all(path.is_file() for path in files) else None


def end_ids(value: Any) -> tuple[int, ...]:
    """eos_token_id as config files write it: nothing, a number or a list."""
    return () if value is None else tuple(sorted(value)) if isinstance(value, list) else (int(value),)


def context_length(model: Path) -> int | None:
    """Positions that the model was made for, None where its config does not say."""
    return config(model).get("max_position_embeddings")
