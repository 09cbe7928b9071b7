"""Samples from tables: one row a context, or a token bank with the prompts beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from .context_bank import Sample
from .schema import read_any

ENGINE_CONTEXTS = "frozen_contexts.jsonl"
_BANK_COLUMNS = ("rollout_id", "sample_index", "group_index", "tok_pos", "token_id", "resp_len", "prompt_len")
_MASK = "loss_mask_original"
_LISTS = {name: pa.list_(pa.int32()) for name in ("prompt_tokens", "response_tokens", "tokens", "loss_mask")}


def read_contexts(pattern: str, flag: str = "--contexts") -> Iterator[Sample]:
    """Rows with prompt_tokens and response_tokens, or tokens and response_length; a context bank is such a table."""
    for path in matching_files(flag, pattern):
        table = _lists(path, read_any(path))
        names = set(table.schema.names)
        if not ({"prompt_tokens", "response_tokens"} <= names or {"tokens", "response_length"} <= names):
            raise ValueError(
                f"{path}: columns missing: prompt_tokens and response_tokens, or tokens and response_length; it has "
                f"{', '.join(table.schema.names)}"
            )
        for row in table.to_pylist():
            yield _sample(row, str(path))


def read_local_engine(out: Path) -> Iterator[Sample]:
    """The frozen contexts of an embedded engine's output directory. Raises ValueError where there are none."""
    path = out / ENGINE_CONTEXTS
    if not path.is_file():
        raise ValueError(f"--local-engine {out}: no {ENGINE_CONTEXTS}; is it the OUT of a finished run?")
    return read_contexts(str(path), "--local-engine")


def read_token_bank(pattern: str, prompts: Path, tokenizer: Any = None) -> Iterator[Sample]:
    """Responses of a token bank's files, joined to their prompts by group_index, or sample_index where the prompts have
    that. prompts: a table with the index and prompt_tokens, or prompt and a tokenizer, whose text is taken as it is.

    Raises ValueError where a column is missing, tokens of a response are, or a prompt is not as long as the bank says.
    """
    index, found = _prompts(prompts, tokenizer)
    for path in matching_files("--token-bank", pattern):
        table = read_any(path)
        missing = [name for name in _BANK_COLUMNS if name not in table.schema.names]
        if missing:
            raise ValueError(f"{path}: columns missing: {', '.join(missing)}")
        kept = [*_BANK_COLUMNS, *(name for name in (_MASK, "truncated") if name in table.schema.names)]
        frame = pl.from_arrow(table.select(kept))
        for (rollout, sample), rows in frame.group_by("rollout_id", "sample_index", maintain_order=True):
            yield _from_rows(rows.sort("tok_pos"), index, found, f"{path}: rollout {rollout}, sample {sample}", path)


def _from_rows(rows: pl.DataFrame, index: str, prompts: dict[int, dict], where: str, path: Path) -> Sample:
    first = rows.row(0, named=True)
    if rows["tok_pos"].to_list() != list(range(first["resp_len"])):
        raise ValueError(f"{where}: {len(rows)} tokens of a response of {first['resp_len']}")
    prompt = prompts.get(first[index])
    if prompt is None:
        raise ValueError(f"{where}: no prompt with {index} {first[index]}")
    if len(prompt["prompt_tokens"]) != first["prompt_len"]:
        raise ValueError(
            f"{where}: the prompt with {index} {first[index]} has {len(prompt['prompt_tokens'])} tokens, the bank says "
            f"{first['prompt_len']}: another tokenizer, template or order of prompts"
        )
    return Sample(
        prompt["prompt_tokens"],
        rows["token_id"].to_list(),
        str(path),
        rows[_MASK].to_list() if _MASK in rows.columns else None,
        prompt.get("prompt"),
        None,
        first["sample_index"],
        first["group_index"],
        bool(first["truncated"]) if first.get("truncated") is not None else None,
    )


def _prompts(path: Path, tokenizer: Any) -> tuple[str, dict[int, dict[str, Any]]]:
    table = _lists(path, read_any(path))
    names = table.schema.names
    index = next((name for name in ("group_index", "sample_index") if name in names), None)
    if index is None or not ("prompt_tokens" in names or ("prompt" in names and tokenizer is not None)):
        raise ValueError(
            f"--prompts {path}: needs group_index or sample_index, and prompt_tokens (or prompt, with --tokenizer); it "
            f"has {', '.join(names)}"
        )
    rows = table.to_pylist()
    if "prompt_tokens" not in names:
        for row in rows:
            row["prompt_tokens"] = tokenizer(row["prompt"])["input_ids"]
    return index, {row[index]: row for row in rows}


def _sample(row: dict[str, Any], source: str) -> Sample:
    if "prompt_tokens" in row:
        prompt, response = row["prompt_tokens"], row["response_tokens"]
    else:
        end = len(row["tokens"]) - row["response_length"]
        prompt, response = row["tokens"][:end], row["tokens"][end:]
    truncated = row.get("truncated")
    return Sample(
        prompt or [],
        response or [],
        source,
        row.get("loss_mask"),
        row.get("prompt"),
        row.get("response"),
        row.get("sample_index"),
        row.get("group_index"),
        None if truncated is None else bool(truncated),
    )


def _lists(path: Path, table: pa.Table) -> pa.Table:
    """Lists that a CSV holds as JSON."""
    for name, kind in _LISTS.items():
        if name in table.schema.names and pa.types.is_string(table.schema.field(name).type):
            try:
                values = [None if text is None else json.loads(text) for text in table[name].to_pylist()]
                column = pa.array(values, kind)
            except (json.JSONDecodeError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise ValueError(f"{path}: column {name} is no list of whole numbers ({error})") from error
            table = table.set_column(table.schema.names.index(name), name, column)
    return table


def matching_files(flag: str, pattern: str) -> list[Path]:
    """Files that a glob matches, in order. Raises ValueError, naming the flag, where there is none."""
    whole = Path(pattern)
    inside = whole.relative_to(whole.anchor)
    try:
        paths = sorted(Path(whole.anchor or ".").glob(str(inside))) if inside.parts else []
    except ValueError as error:
        raise ValueError(f"{flag} {pattern}: {error}") from error
    if not paths:
        raise ValueError(f"{flag} {pattern or repr(pattern)}: no such file")
    return paths
