"""Which rows of a rank's packed logits predict which response tokens, and what the loss knows of those tokens.

Axes: T rows of a micro-batch's logits on this rank; S samples; R response tokens of a sample; N response tokens that
this rank's logits predict, samples one after another; K entries of a top-k list; H hidden units.
"""

from __future__ import annotations

import inspect
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from slime.backends.megatron_utils import cp_utils, loss
from ta_opd.support import NO_TOKEN, TopK
from ta_opd.vocab_parallel import VocabShard
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary


@dataclass(frozen=True)
class Layout:
    """How slime spreads the tokens of packed samples over context-parallel ranks.

    gathered: all-gather context parallelism, one contiguous slice of all samples together; else each sample is cut
    into 2 size chunks, of which a rank holds one from either end (zigzag).
    """

    rank: int = 0
    size: int = 1
    gathered: bool = False

    @staticmethod
    def of(args: Namespace) -> Layout:
        """This rank's."""
        from megatron.core import mpu

        size = mpu.get_context_parallel_world_size()
        return Layout(mpu.get_context_parallel_rank(), size, size > 1 and bool(getattr(args, "allgather_cp", False)))


@dataclass(frozen=True)
class Places:
    """row: int64 [N], the rows of the logits that predict response tokens, -1 where a packed head left one out. token:
    for each of the S samples the places of its tokens in the response, int64 [N_s]; N is the sum of the N_s."""

    row: Tensor
    token: list[Tensor]


def find_places(
    total_lengths: Sequence[int], response_lengths: Sequence[int], layout: Layout, row_count: int
) -> Places:
    """Places in logits of `row_count` rows. The logits of a token's predecessor predict it, so that the response of a
    sample of length L begins at its row L - R - 1."""
    rows, tokens, start, packed = [], [], 0, 0
    for total, response in zip(total_lengths, response_lengths, strict=True):
        first, end = total - response - 1, total - 1
        if layout.gathered:
            low, high = layout.rank * row_count - start, (layout.rank + 1) * row_count - start
            shares = [(low, high, -low)]
        elif layout.size == 1:
            shares = [(0, total, start)]
        else:
            chunk = -(-total // (2 * layout.size))
            front, back = layout.rank * chunk, (2 * layout.size - 1 - layout.rank) * chunk
            shares = [(front, front + chunk, packed - front), (back, back + chunk, packed + chunk - back)]
            packed += 2 * chunk
        spans = [torch.arange(max(low, first), max(min(high, end), low, first)) for low, high, _ in shares]
        rows += [span + shift for span, (_, _, shift) in zip(spans, shares, strict=True)]
        tokens.append(torch.cat(spans) - first)
        start += total
    return Places(torch.cat(rows) if rows else torch.zeros(0, dtype=torch.int64), tokens)


@dataclass(frozen=True)
class TokenRows:
    """What the loss knows of a sample's tokens, all R of them or those of this rank's logits.

    weight: float32, 0 where a token is not distilled. topk: the teacher's lists, and entropy: float32, nats, its exact
    one where that is known; or hidden [., H], its final hidden states, with head [V', H], this rank's share of its
    output head, the same for all samples. sample_index: slime's number of the sample, None where it has none.
    """

    weight: Tensor
    topk: TopK | None = None
    entropy: Tensor | None = None
    hidden: Tensor | None = None
    head: Tensor | None = None
    sample_index: int | None = None


def vocab_shard(args: Namespace, columns: int) -> VocabShard:
    """This tensor-parallel rank's share of the vocabulary; ids from args.vocab_size on are padding."""
    from megatron.core import mpu

    size, rank = mpu.get_tensor_model_parallel_world_size(), mpu.get_tensor_model_parallel_rank()
    group = mpu.get_tensor_model_parallel_group() if size > 1 else None
    return VocabShard(group, rank * columns, min(args.vocab_size, size * columns))


_ROWS: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""A sample's tensor of tokens, which slime hands to the loss as it is, to its TokenRows, for as long as it lives."""


def hold(tokens: Sequence[Tensor], rows: Sequence[TokenRows]) -> None:
    """Keep the rows of samples until their tensors of tokens are gone."""
    for key, value in zip(tokens, rows, strict=True):
        _ROWS[key] = value


def held(tokens: Sequence[Tensor]) -> list[TokenRows]:
    """The rows of these samples. Raises RuntimeError where the hooks kept none."""
    if any(key not in _ROWS for key in tokens):
        raise RuntimeError(
            "the loss got samples that slime.backends.megatron_utils.opd_hooks.report never saw; all three trainer "
            "hooks are needed, and tokens must reach the loss as the same tensors"
        )
    return [_ROWS[key] for key in tokens]


def joined(parts: Sequence[Tensor], places: Places, device: torch.device) -> Tensor:
    """[N, ...] from what is held of each sample: all R tokens, or already those of this rank's logits."""
    taken = [
        part if len(part) == len(token) else part[token.to(part.device)]
        for part, token in zip(parts, places.token, strict=True)
    ]
    return torch.cat(taken).to(device)


def distilled(
    args: Namespace, known: Sequence[TokenRows], places: Places, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of the N tokens: weight, float32, and bool, whether the loss reads the row."""
    weight = joined([rows.weight for rows in known], places, device)
    kept = weight > 0
    if known and known[0].topk is not None:
        # A student may lack every id of a list; such a token has nothing to be compared with.
        real = [((r.topk.ids >= 0) & (r.topk.ids < args.vocab_size)).any(1) for r in known]
        kept = kept & joined(real, places, device)
    return weight, kept


def over_rows(values: Tensor, places: Places, row_count: int, empty: float) -> Tensor:
    """[T, ...] from [N, ...], `empty` in the rows that predict no response token."""
    result, row = values.new_full((row_count, *values.shape[1:]), empty), places.row
    if (row < 0).any():
        there = (row >= 0).nonzero()[:, 0]
        values, row = values[there.to(values.device)], row[there]
    result[row.to(values.device)] = values
    return result


def lists_over_rows(parts: Sequence[TopK], places: Places, row_count: int, device: torch.device) -> TopK:
    """TopK of T rows."""
    ids = joined([topk.ids for topk in parts], places, device)
    logprobs = joined([topk.logprobs for topk in parts], places, device)
    return TopK(over_rows(ids, places, row_count, NO_TOKEN), over_rows(logprobs, places, row_count, -torch.inf))


def whole_rows(rows: TokenRows, total: int, response: int) -> TokenRows:
    """All R tokens of a sample from the zigzag shares of its context-parallel ranks; one collective."""
    columns = [rows.weight[:, None]]
    if rows.topk is not None:
        columns += [rows.topk.ids.float(), rows.topk.logprobs]
    with torch.no_grad():
        whole = cp_utils.all_gather_with_cp(torch.cat(columns, dim=1), total, response).detach()
    if rows.topk is None:
        return TokenRows(whole[:, 0])
    ids, logprobs = whole[:, 1:].chunk(2, dim=1)
    return TokenRows(whole[:, 0], TopK(ids.to(rows.topk.ids.dtype), logprobs))


def as_slime_reduces(values: Tensor, places: Places, layout: Layout, batch: dict, row_count: int) -> Tensor:
    """[N] in the order that slime's reducer splits: its own but for all-gather context parallelism, where slime's
    function takes the rows to the zigzag shares, a collective with a gradient."""
    if not layout.gathered:
        return values
    share = {"values": list(values.split([len(token) for token in places.token]))}
    lengths = {"total_lengths": batch["total_lengths"], "response_lengths": batch["response_lengths"]}
    redistribute: Callable = loss._allgather_cp_redistribute
    if "args" in inspect.signature(redistribute).parameters:
        lengths["args"] = Namespace(qkv_format="thd")
    redistribute(share, logits_local_len=row_count, **lengths)
    return torch.cat(share["values"])
