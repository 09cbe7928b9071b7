"""The contexts of a bank that are scored, in shards that are finished one at a time, each in batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

SHARD_TOKENS = 4096
"""Response tokens of a shard: what is lost when a run is killed, and what memory is taken for."""


@dataclass(frozen=True)
class Context:
    """prompt: int32 [P]. response: int32 [R], cut where --max-response-tokens says so. loss_mask: int8 [R].
    whole_length: response tokens before the cut."""

    context_id: str
    prompt_id: str
    sample_index: int | None
    group_index: int | None
    prompt: np.ndarray
    response: np.ndarray
    loss_mask: np.ndarray
    whole_length: int

    @property
    def highest_id(self) -> int:
        return int(max(self.prompt.max(), self.response.max()))

    @property
    def lowest_id(self) -> int:
        return int(min(self.prompt.min(), self.response.min()))

    @property
    def inputs(self) -> np.ndarray:
        """int32 [P + R - 1]: all tokens but the last, after which nothing is predicted."""
        return np.concatenate([self.prompt, self.response[:-1]])


def select_contexts(
    bank: pl.DataFrame, max_samples: int | None, max_response_tokens: int | None
) -> tuple[list[Context], list[str]]:
    """The first max_samples contexts in the bank's order that have a response, and the ids of those that have none.

    Raises ValueError where a context has no prompt, its length or loss mask does not fit, or none is left.
    """
    contexts, empty = [], []
    for row in bank.iter_rows(named=True):
        if not row["response_tokens"]:
            empty.append(row["context_id"])
            continue
        if max_samples is not None and len(contexts) == max_samples:
            break
        contexts.append(_context(row, max_response_tokens))
    if not contexts:
        raise ValueError(f"no context with a response among {len(bank):,}")
    return contexts, empty


def _context(row: dict, most: int | None) -> Context:
    name, length = row["context_id"], len(row["response_tokens"])
    if not row["prompt_tokens"]:
        raise ValueError(f"context {name} has no prompt: nothing predicts its first response token")
    mask = row["loss_mask"]
    if row["response_length"] != length or (mask is not None and len(mask) != length):
        shown = "none" if mask is None else f"{len(mask)} entries"
        raise ValueError(
            f"context {name}: response_length {row['response_length']}, {length} response tokens, loss mask {shown}"
        )
    return Context(
        name,
        row["prompt_id"],
        row["sample_index"],
        row["group_index"],
        np.array(row["prompt_tokens"], np.int32),
        np.array(row["response_tokens"][:most], np.int32),
        np.ones(length, np.int8)[:most] if mask is None else np.array(mask[:most], np.int8),
        length,
    )


def shards(contexts: Sequence[Context]) -> list[list[Context]]:
    """Consecutive contexts of at most SHARD_TOKENS response tokens, or one longer context; the same for every run over
    these contexts, whatever the batches."""
    parts: list[list[Context]] = []
    tokens = SHARD_TOKENS
    for context in contexts:
        if tokens + len(context.response) > SHARD_TOKENS:
            parts.append([])
            tokens = 0
        parts[-1].append(context)
        tokens += len(context.response)
    return parts


def batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Places of sequences, longest first, at most `most` tokens with the padding, or one longer sequence."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > most:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
