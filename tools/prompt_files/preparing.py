"""From sources to shards and their index: read, deduplicate, leave long ones out, hold some out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from .lengths import token_counts
from .reading import Row, read_rows
from .records import Form, Keys, Prompt, find_keys, make_prompt
from .shards import HELD_OUT, TRAIN, held_out_hashes

DUPLICATE, TOO_LONG, BROKEN = "duplicate", "too_long", "broken"
SHARDS = (TRAIN, HELD_OUT, DUPLICATE, TOO_LONG, BROKEN)


@dataclass(frozen=True)
class Settings:
    """held_out: a number of prompts, a share, or None. kept: content hashes held out before."""

    input_key: str | None = None
    label_key: str | None = None
    form: Form = field(default_factory=Form)
    held_out: int | Fraction | None = None
    kept: frozenset[str] = frozenset()
    seed: int = 42
    max_prompt_tokens: int | None = None
    tokenizer: str | None = None
    hub_config: str | None = None
    hub_split: str = "train"

    def __post_init__(self) -> None:
        if (self.max_prompt_tokens is None) != (self.tokenizer is None):
            raise ValueError("--max-prompt-tokens and --tokenizer go together")
        if self.max_prompt_tokens is not None and self.max_prompt_tokens < 1:
            raise ValueError(f"--max-prompt-tokens {self.max_prompt_tokens} must be 1 or more")


@dataclass
class Entry:
    """A row of the source and what became of it. note: why it is broken, or which row it repeats."""

    row: Row
    prompt: Prompt | None = None
    shard: str = TRAIN
    note: str = ""

    def line(self) -> dict[str, Any]:
        found = {"source": self.row.source, "line": self.row.number}
        if self.prompt is not None:
            found["hash"] = self.prompt.content_hash
        return found | {"shard": self.shard} | ({"note": self.note} if self.note else {})


@dataclass(frozen=True)
class Prepared:
    """entries: every row, in order. labels_differ: duplicates whose label is another one than the prompt's kept."""

    entries: list[Entry]
    labels_differ: int

    def prompts(self, shard: str) -> list[Prompt]:
        return [entry.prompt for entry in self.entries if entry.shard == shard and entry.prompt is not None]

    def counts(self) -> dict[str, int]:
        return {shard: sum(entry.shard == shard for entry in self.entries) for shard in SHARDS}

    @property
    def broken(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.shard == BROKEN]


def prepare(sources: Sequence[str], settings: Settings) -> Prepared:
    """Raises ValueError for sources, keys and settings that cannot be right; broken rows are in the result."""
    entries = list(_entries(sources, settings))
    labels_differ = _mark_duplicates(entries)
    left = [entry for entry in entries if entry.shard == TRAIN and entry.prompt is not None]
    if settings.tokenizer is not None and settings.max_prompt_tokens is not None:
        counts = token_counts([entry.prompt.prompt for entry in left], settings.tokenizer)
        for entry, count in zip(left, counts, strict=True):
            if count > settings.max_prompt_tokens:
                entry.shard, entry.note = TOO_LONG, f"{count} tokens"
        left = [entry for entry in left if entry.shard == TRAIN]
    if not left:
        raise ValueError(f"no prompt is left of {len(entries)} rows: {_why(entries)}")
    hashes = [entry.prompt.content_hash for entry in left]
    chosen = held_out_hashes(hashes, settings.held_out, settings.seed, settings.kept)
    for entry in left:
        if entry.prompt.content_hash in chosen:
            entry.shard = HELD_OUT
    return Prepared(entries, labels_differ)


def _entries(sources: Iterable[str], settings: Settings) -> Iterable[Entry]:
    keys: Keys | None = None
    for source in sources:
        for row in read_rows(source, settings.hub_config, settings.hub_split):
            if row.record is None:
                yield Entry(row, shard=BROKEN, note=row.problem)
                continue
            try:
                keys = keys or find_keys(row.record, settings.input_key, settings.label_key)
            except ValueError as error:
                raise ValueError(f"{row.where}: {error}") from error
            try:
                yield Entry(row, make_prompt(row.record, keys, settings.form))
            except ValueError as error:
                yield Entry(row, shard=BROKEN, note=str(error))


def _mark_duplicates(entries: Sequence[Entry]) -> int:
    """The first of the same prompts stays. Returns how many others have another label."""
    first: dict[str, Entry] = {}
    differ = 0
    for entry in entries:
        if entry.prompt is None:
            continue
        kept = first.setdefault(entry.prompt.content_hash, entry)
        if kept is not entry:
            entry.shard, entry.note = DUPLICATE, f"of {kept.row.where}"
            if kept.prompt.label != entry.prompt.label:
                entry.note += ", with another label"
                differ += 1
    return differ


def _why(entries: Sequence[Entry]) -> str:
    broken = next((entry for entry in entries if entry.shard == BROKEN), None)
    return f"the first broken one is {broken.row.where}: {broken.note}" if broken else "none, or all too long"
