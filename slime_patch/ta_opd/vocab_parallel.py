"""A vocabulary spread over tensor-parallel ranks: who owns which token, and the two packed collectives of a loss.

Axes: R ranks of the group, n rows. Nothing here has a backward: the losses' gradients need no collective.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from .row_statistics.block import STATISTICS

# (log-sum-exp, its means) among the columns of block.STATISTICS.
_WEIGHED = ((0, (2, 4)), (1, (3, 5)), (6, (7, 8)))
_LABELS, _LOWEST = (9, 10), 11


@dataclass(frozen=True)
class VocabShard:
    """The columns of one rank's logits.

    group: the ranks that share a row; None: this one has it all. start: the token id of local column 0. vocabulary:
    real token ids of the whole model; columns beyond it are padding, no part of the distribution, without gradient.
    """

    group: ProcessGroup | None
    start: int
    vocabulary: int

    def columns(self, local: int) -> int:
        """How many of `local` columns are real tokens; they come first."""
        return min(max(self.vocabulary - self.start, 0), local)

    def local(self, ids: Tensor, columns: int) -> Tensor:
        """int64, the local column of each global id, -1 where it is not here."""
        place = ids.long() - self.start
        return place.masked_fill((place < 0) | (place >= columns) | (ids < 0), -1)

    def real(self, ids: Tensor) -> Tensor:
        """bool, ids that are tokens of the vocabulary."""
        return (ids >= 0) & (ids < self.vocabulary)


def all_shards(shard: VocabShard, values: Tensor) -> Tensor:
    """[n, k] of every rank, [R, n, k]; one all-gather."""
    if shard.group is None or not len(values):
        return values[None]
    out = values.new_empty(dist.get_world_size(shard.group), *values.shape)
    dist.all_gather(list(out.unbind()), values.contiguous(), group=shard.group)
    return out


def sum_shards(shard: VocabShard, parts: Sequence[Tensor]) -> list[Tensor]:
    """Each part's sum over the ranks; one all-reduce for all of them."""
    sizes = [part.numel() for part in parts]
    if shard.group is None or not sum(sizes):
        return list(parts)
    packed = torch.cat([part.reshape(-1) for part in parts])
    dist.all_reduce(packed, group=shard.group)
    return [flat.view(part.shape) for flat, part in zip(packed.split(sizes), parts, strict=True)]


def combined_lse(lse: Tensor) -> tuple[Tensor, Tensor]:
    """Of local log-sum-exps [R, n]: the whole one [n], and each rank's share of the probability [R, n]."""
    whole = lse.logsumexp(0)
    return whole, (lse - whole).exp()


def combine_statistics(parts: Tensor, names: Sequence[int]) -> Tensor:
    """[n, 12] of the whole vocabulary from the shards' [R, n, k], which hold the columns `names`; NaN where not sent.

    `lowest` becomes a lower bound of the least log-prob, exact on one shard.
    """
    sent = dict(zip(names, parts.unbind(-1), strict=True))
    out = parts.new_full((parts.shape[1], STATISTICS), torch.nan)
    slack = None
    for lse, means in _WEIGHED:
        if lse not in sent:
            continue
        out[:, lse], share = combined_lse(sent[lse])
        for mean in set(means) & sent.keys():
            out[:, mean] = (share * sent[mean]).sum(0)
        if lse in (0, 1):
            below = sent[lse] - out[:, lse]
            slack = below if slack is None else torch.minimum(slack, below)
    for label in set(_LABELS) & sent.keys():
        out[:, label] = sent[label].sum(0)
    if _LOWEST in sent:
        # A shard without a real token says inf - inf.
        out[:, _LOWEST] = (sent[_LOWEST] + slack).nan_to_num(nan=torch.inf, neginf=-torch.inf).amin(0)
    return out
