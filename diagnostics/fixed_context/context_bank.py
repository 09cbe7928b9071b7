"""A context bank from samples: ids by content, each context once, and a manifest that says what was left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from ta_opd.files import atomic_path, write_json

from .files import make_place
from .identity import context_id, file_sha256, prompt_id, tokenizer_fingerprint
from .schema import CONTEXT_SCHEMA, SCHEMA_VERSION, write_parquet


@dataclass(frozen=True)
class Sample:
    """One response of the student. tokens are ids; loss_mask None counts every response token. source: the file."""

    prompt_tokens: list[int]
    response_tokens: list[int]
    source: str
    loss_mask: list[int] | None = None
    prompt: str | None = None
    response: str | None = None
    sample_index: int | None = None
    group_index: int | None = None
    truncated: bool | None = None


def build_bank(samples: Iterable[Sample], max_samples: int | None, tokenizer: Any = None) -> tuple[pa.Table, Counter]:
    """The first max_samples contexts, and how many samples were "read", "duplicate", "empty", "no_prompt".

    A response of no tokens cannot be scored, nor one without a prompt, and the same context twice is one. Text that a
    sample lacks comes from the tokenizer, where there is one. Raises ValueError where none is left, or where a mask
    does not fit.
    """
    rows: dict[str, dict[str, Any]] = {}
    counts: Counter = Counter(read=0, duplicate=0, empty=0, no_prompt=0)
    for sample in samples:
        if max_samples is not None and len(rows) == max_samples:
            break
        counts["read"] += 1
        name = context_id(sample.prompt_tokens, sample.response_tokens)
        if not sample.response_tokens:
            counts["empty"] += 1
        elif not sample.prompt_tokens:
            counts["no_prompt"] += 1
        elif name in rows:
            counts["duplicate"] += 1
        else:
            rows[name] = _row(name, sample, tokenizer)
    if not rows:
        raise ValueError(f"no context to export: {describe(counts)}")
    return pa.Table.from_pylist(list(rows.values()), CONTEXT_SCHEMA), counts


def describe(counts: Counter) -> str:
    """What was left out, for people."""
    return (
        f"{counts['read']:,} samples read, {counts['duplicate']:,} duplicates, {counts['empty']:,} empty responses, "
        f"{counts['no_prompt']:,} without a prompt"
    )


def write_bank(
    path: Path, bank: pa.Table, counts: Counter, tokenizer: Any = None, read: Iterable[tuple[str, Path]] = ()
) -> dict[str, Any]:
    """The bank by its suffix (.parquet, .jsonl, .csv) and FILE.manifest.json beside it, each atomically; the manifest.

    Lists are JSON in a CSV. read: flags and files that the contexts come from. Raises ValueError for another suffix,
    one of those files, or where there can be no such file.
    """
    write = {".parquet": _write_parquet, ".jsonl": _write_jsonl, ".csv": _write_csv}
    if path.suffix not in write:
        raise ValueError(f"--output {path}: the name must end in .parquet, .jsonl or .csv")
    make_place(path, "--output", read)
    with atomic_path(path) as temporary:
        write[path.suffix](temporary, bank)
    lengths = bank["response_length"].to_numpy()
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "contexts": len(bank),
        "prompts": len(bank["prompt_id"].unique()),
        "response_tokens": int(lengths.sum()),
        "longest_response": int(lengths.max()),
        "longest_context": int((lengths + np.array([len(p) for p in bank["prompt_tokens"]])).max()),
        **{f"samples_{name}": count for name, count in counts.items()},
        "tokenizer_fingerprint": None if tokenizer is None else tokenizer_fingerprint(tokenizer),
        "sha256": file_sha256(path),
        "sources": sorted(bank["source"].unique().to_pylist()),
    }
    write_json(path.with_name(f"{path.name}.manifest.json"), manifest)
    return manifest


def _row(name: str, sample: Sample, tokenizer: Any) -> dict[str, Any]:
    length = len(sample.response_tokens)
    if sample.loss_mask is not None and len(sample.loss_mask) != length:
        raise ValueError(f"{sample.source}: a loss mask of {len(sample.loss_mask)} for {length} response tokens")

    def text(given: str | None, tokens: list[int]) -> str | None:
        return tokenizer.decode(tokens) if given is None and tokenizer is not None else given

    return {
        "schema_version": SCHEMA_VERSION,
        "context_id": name,
        "prompt_id": prompt_id(sample.prompt_tokens),
        "sample_index": sample.sample_index,
        "group_index": sample.group_index,
        "prompt_tokens": sample.prompt_tokens,
        "response_tokens": sample.response_tokens,
        "prompt": text(sample.prompt, sample.prompt_tokens),
        "response": text(sample.response, sample.response_tokens),
        "response_length": length,
        "truncated": None if sample.truncated is None else int(sample.truncated),
        "source": sample.source,
        "loss_mask": [1] * length if sample.loss_mask is None else [int(bit != 0) for bit in sample.loss_mask],
    }


def _write_parquet(path: Path, bank: pa.Table) -> None:
    write_parquet(path, bank, {"schema_version": SCHEMA_VERSION, "kind": "context bank"})


def _write_jsonl(path: Path, bank: pa.Table) -> None:
    with path.open("w", encoding="utf-8") as handle:
        for row in bank.to_pylist():
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_csv(path: Path, bank: pa.Table) -> None:
    columns = [
        pa.array([json.dumps(values) for values in bank[field.name].to_pylist()])
        if pa.types.is_nested(field.type)
        else bank[field.name]
        for field in CONTEXT_SCHEMA
    ]
    pa.csv.write_csv(pa.table(columns, names=CONTEXT_SCHEMA.names), path)
