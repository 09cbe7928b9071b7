"""What a context, a model, a tokenizer and a file are by their content, so that names and paths do not matter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_HUB_BLOB = re.compile(r"[0-9a-f]{64}")


def context_id(prompt: Sequence[int], response: Sequence[int]) -> str:
    """16 hex digits of the sha256 over the token ids; where the prompt ends is part of it."""
    return _digest(_ids(prompt), b"|", _ids(response))


def prompt_id(prompt: Sequence[int]) -> str:
    """16 hex digits of the sha256 over the prompt's token ids, the cluster of contexts with one prompt."""
    return _digest(_ids(prompt))


def file_sha256(path: Path) -> str:
    """The file's sha256. The Hugging Face hub's cache keeps large files under that name: those are not read."""
    target = path.resolve()
    if path.is_symlink() and _HUB_BLOB.fullmatch(target.name):
        return target.name
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def model_fingerprint(directory: Path) -> str:
    """16 hex digits over config.json and every file of weights. Raises ValueError where there are no weights."""
    weights = sorted([*directory.glob("*.safetensors"), *directory.glob("pytorch_model*.bin")])
    if not weights:
        raise ValueError(f"{directory}: no *.safetensors or pytorch_model*.bin; give a model in transformers' form")
    return _digest(*(f"{path.name}={file_sha256(path)};".encode() for path in [directory / "config.json", *weights]))


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """16 hex digits over which text each id stands for."""
    return _digest(*(f"{number}={text!r};".encode() for number, text in _texts(tokenizer).items()))


def tokenizer_difference(one: Any, other: Any) -> str:
    """How two tokenizers differ, in a few words; empty where every id stands for the same text."""
    a, b = _texts(one), _texts(other)
    differing = [number for number in sorted(a.keys() | b.keys()) if a.get(number) != b.get(number)]
    if not differing:
        return ""
    first = differing[0]
    return (
        f"{len(differing):,} of {len(a.keys() | b.keys()):,} ids differ, first id {first}: "
        f"{a.get(first)!r} and {b.get(first)!r}"
    )


def _texts(tokenizer: Any) -> dict[int, str]:
    return {number: text for text, number in sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])}


def _ids(tokens: Sequence[int]) -> bytes:
    return np.asarray(tokens, "<i4").tobytes()


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]
