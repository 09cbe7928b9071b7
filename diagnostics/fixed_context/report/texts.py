"""Token ids and contexts as text: from the student's tokenizer and the context bank, where they are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

from ..schema import read_context_bank
from .source import Source
from .tokens import TextOf


def token_texts(source: Source, tokenizer: str | None) -> tuple[TextOf, str]:
    """A token's text, and what to tell of it. tokenizer: a directory or hub name; the student's own folder, which the
    metrics name, where it is None and still there. Without one a token is #ID. Raises ValueError for one that cannot
    be loaded."""
    name = tokenizer
    if name is None and Path(str(source.metadata.get("student"))).is_dir():
        name = str(source.metadata["student"])
    if name is None:
        return lambda token: f"#{token}", "no tokenizer was given (--tokenizer): tokens are shown as numbers"
    decode, spelling = _reader(name)
    return lambda token: _text(decode, spelling, token), ""


def _reader(name: str) -> tuple[Callable[[int], str], Callable[[int], str | None]]:
    """A token decoded, and the vocabulary's own spelling of it. A tokenizer.json is read without transformers, whose
    import takes longer than all of this."""
    file = Path(name) / "tokenizer.json"
    if not file.is_file():
        from ..models import load_tokenizer

        loaded = load_tokenizer("--tokenizer", name, False)
        return lambda token: loaded.decode([token]), loaded.convert_ids_to_tokens
    try:
        text = file.read_text(encoding="utf-8")
        whole = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--tokenizer {name}: tokenizer.json is no JSON ({error})") from error
    if not isinstance(whole, dict) or "model" not in whole:
        raise ValueError(f"--tokenizer {name}: tokenizer.json is no tokenizer")
    fast = Tokenizer.from_str(text)
    return lambda token: fast.decode([token], skip_special_tokens=False), fast.id_to_token


def _text(decode: Callable[[int], str], spelling: Callable[[int], str | None], token: int) -> str:
    """Decoded; the vocabulary's own spelling for part of a character, which has no text."""
    text = decode(token)
    if "\ufffd" in text or text == "":
        text = spelling(token) or f"#{token}"
    return text


def context_prompts(source: Source, bank: Path | None) -> dict[str, str | None]:
    """context id -> prompt. Raises ValueError where the bank lacks a context of the metrics."""
    if bank is None:
        return {}
    table = read_context_bank(bank)
    found = dict(zip(table["context_id"].to_list(), table["prompt"].to_list(), strict=True))
    missing = [name for name in source.frame["context_id"].unique(maintain_order=True).to_list() if name not in found]
    if missing:
        raise ValueError(
            f"--context-bank {bank}: {len(missing):,} contexts of the metrics are not in it, first {missing[0]}"
        )
    return found
