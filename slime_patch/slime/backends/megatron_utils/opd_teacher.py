"""A Megatron teacher's distributions, taken from the forward in which slime computes its log-probs.

With K: its top-k lists and exact entropy, made from the logits while they are there. Without: its final hidden states
and its share of the output head, from which the loss rebuilds logits. [T, V'] is never kept.
Axes: T rows of a micro-batch's logits; N response tokens they predict; V' this rank's columns; K entries of a list; H
hidden units.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from slime.backends.megatron_utils.opd_pack import output_layer
from slime.backends.megatron_utils.opd_rows import Layout, Places, find_places, vocab_shard
from ta_opd.support import NO_TOKEN, TopK
from ta_opd.vocab_parallel import VocabShard, all_shards
from torch import Tensor

PREFIX = "teacher_"
"""slime's name for the teacher's forward and for what comes out of it."""
TOP_K, HIDDEN = "ta_opd_topk", "ta_opd_hidden"
"""Our keys behind that prefix: lists of [N_s, 2K + 1], ids, log-probs and entropy, or of [N_s, H]."""

_BLOCK = 1 << 25  # elements of logits that are looked at together

_head: Tensor | None = None
"""[V', H], the teacher's head, between its forward and the hook that hands it on."""


def scored(
    forward_only: Callable, k: int, f: Callable, args: Namespace, model: Sequence[Any], *rest: Any, **named: Any
) -> Any:
    """slime's forward_only of the teacher with our keys beside its own. k: entries of a list; 0 keeps hidden states."""
    if k:
        return forward_only(_with_lists(f, k), args, model, *rest, **named)
    with _hidden_states(model[-1]) as latest:
        return forward_only(_with_hidden(f, latest), args, model, *rest, **named)


def take(rollout_data: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Each sample's fields of TokenRows, None without any; our keys leave the data, since slime would log them."""
    global _head
    rows, hidden = (rollout_data.pop(PREFIX + key, None) for key in (TOP_K, HIDDEN))
    head, _head = _head, None
    if rows is not None:
        return [{"topk": as_topk(part), "entropy": part[:, -1]} for part in rows]
    return None if hidden is None else [{"hidden": states, "head": head} for states in hidden]


def as_topk(rows: Tensor) -> TopK:
    """From [N, 2K + 1]."""
    ids, logprobs = rows[:, :-1].chunk(2, dim=1)
    return TopK(ids.to(torch.int32), logprobs)


def top_k(logits: Tensor, k: int, shard: VocabShard) -> tuple[TopK, Tensor]:
    """The k best real tokens of rows [n, V'], whole-vocabulary log-probs, and the entropy [n], nats.

    A collective over the shard's group: one all-gather of 2k + 2 numbers a row. The lists are the same on every rank.
    """
    columns = shard.columns(logits.shape[1])
    own = logits[:, :columns].float()
    candidates = own.new_full((len(own), 2 * k + 2), -torch.inf)
    candidates[:, :k] = NO_TOKEN
    if columns:
        found = min(k, columns)
        values, places = own.topk(found, dim=1)
        lse = own.logsumexp(1)
        mean = ((own - lse[:, None]).exp() * own).nan_to_num(0.0).sum(1)
        candidates[:, :found], candidates[:, k : k + found] = (places + shard.start).float(), values
        candidates[:, -2], candidates[:, -1] = lse, mean
    parts = all_shards(shard, candidates)
    whole = parts[..., -2].logsumexp(0)
    share = (parts[..., -2] - whole).exp()
    entropy = whole - torch.where(share > 0, share * parts[..., -1], 0).sum(0)
    ids, values = (part.transpose(0, 1).flatten(1) for part in (parts[..., :k], parts[..., k : 2 * k]))
    best, places = values.topk(k, dim=1)
    return TopK(ids.gather(1, places).to(torch.int32), best - whole[:, None]), entropy


def _with_lists(f: Callable, k: int) -> Callable:
    def scores_and_lists(logits: Tensor, *, args: Namespace, **named: Any) -> tuple[Tensor, dict[str, list[Tensor]]]:
        places = _places(args, logits, named)
        shard, rows = vocab_shard(args, logits.shape[2]), places.row.to(logits.device)
        parts = [logits.new_zeros(0, 2 * k + 1, dtype=torch.float32)]
        for block in rows.split(max(1, _BLOCK // logits.shape[2])):
            lists, entropy = top_k(logits[0, block], k, shard)
            parts.append(torch.cat([lists.ids.float(), lists.logprobs, entropy[:, None]], dim=1))
        empty, result = f(logits, args=args, **named)
        return empty, result | {TOP_K: _by_sample(torch.cat(parts), places)}

    return scores_and_lists


def _with_hidden(f: Callable, latest: dict[str, Tensor]) -> Callable:
    def scores_and_hidden(logits: Tensor, *, args: Namespace, **named: Any) -> tuple[Tensor, dict[str, list[Tensor]]]:
        global _head
        places = _places(args, logits, named)
        rows = places.row.to(logits.device)
        hidden = _whole_sequence(latest.pop("hidden"), logits.shape[1])[rows]
        weight = latest.pop("weight")
        if _head is None:
            # Scaling, capping and a bias are the model's own and the same at every row: one micro-batch tells.
            _head = weight.detach().clone()
            _check_head(hidden[:8], logits[0, rows[:8]], _head)
        empty, result = f(logits, args=args, **named)
        # On the host: as long as the responses of a whole rollout, which the loss reads a micro-batch at a time.
        return empty, result | {HIDDEN: _by_sample(hidden.to(_head.dtype).cpu(), places)}

    return scores_and_hidden


def _places(args: Namespace, logits: Tensor, named: dict[str, Any]) -> Places:
    return find_places(named["total_lengths"], named["response_lengths"], Layout.of(args), logits.shape[1])


def _by_sample(values: Tensor, places: Places) -> list[Tensor]:
    return list(values.split([len(token) for token in places.token]))


@contextmanager
def _hidden_states(chunk: Any) -> Iterator[dict[str, Tensor]]:
    """What goes into the output layer of this pipeline stage, the latest call's: hidden and weight."""
    latest: dict[str, Tensor] = {}

    def note(layer: Any, positional: tuple, named: dict[str, Any]) -> None:
        latest["hidden"] = positional[0] if positional else named["input_"]
        weight = positional[1] if len(positional) > 1 else named.get("weight")
        latest["weight"] = layer.weight if weight is None else weight

    layer = output_layer(chunk)
    handle = None if layer is None else layer.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield latest
    finally:
        if handle is not None:
            handle.remove()


def _whole_sequence(hidden: Tensor, row_count: int) -> Tensor:
    """[T, H] from what the output layer got, [T, 1, H] or, under sequence parallelism, this rank's share of the T."""
    if hidden.shape[0] != row_count:
        from megatron.core import mpu

        share, hidden = hidden.contiguous(), hidden.new_empty(row_count, *hidden.shape[1:])
        torch.distributed.all_gather_into_tensor(hidden, share, group=mpu.get_tensor_model_parallel_group())
    assert hidden.shape[:2] == (row_count, 1), f"hidden states {tuple(hidden.shape)} of {row_count} rows"
    return hidden[:, 0]


def _check_head(hidden: Tensor, logits: Tensor, head: Tensor) -> None:
    """Raises ValueError where the logits are not the hidden states times the head: scaled, capped or with a bias."""
    rebuilt = (hidden.to(head.dtype) @ head.T).float()
    scale = float(logits.abs().max()) if logits.numel() else 0.0
    if not torch.allclose(rebuilt, logits.float(), rtol=0, atol=0.02 * scale):
        raise ValueError(
            "the teacher's logits are not its final hidden states times its output head, so they cannot be rebuilt; "
            "use the teacher's top-k: --opd-loss-top-k"
        )
