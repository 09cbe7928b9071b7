"""A block of top-k lists with the entries first, so that everything about a token is a sum along contiguous tokens.

Axes: K entries of a list, N tokens of a block.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import Tensor

from .masks import any_entry, compare, count, entries_first, filled, first_place
from .support import LOG_FLOOR, NO_TOKEN, TopK


@dataclass(frozen=True)
class Entries:
    """ids: integer [K, N]. held: bool [K, N]. logprobs: float32 [K, N], nats, never below LOG_FLOOR and LOG_FLOOR where
    not held. p: its exp."""

    ids: Tensor
    held: Tensor
    logprobs: Tensor
    p: Tensor

    @staticmethod
    def of(topk: TopK) -> Entries:
        ids = entries_first(topk.ids)
        held = compare(operator.ge, ids, 0)
        logprobs = filled(entries_first(topk.logprobs), held, LOG_FLOOR).clamp_min(LOG_FLOOR)
        return Entries(ids, held, logprobs, logprobs.exp())

    @property
    def empty(self) -> Tensor:
        """bool [N], nothing is known."""
        return ~any_entry(self.held)

    @property
    def size(self) -> Tensor:
        """float32 [N], entries that are held."""
        return count(self.held)

    def mass(self) -> Tensor:
        """float32 [N], the probability that the list covers, all but 0 where it is empty."""
        return self.p.sum(0)

    def entropy(self, renormalised: bool = False) -> Tensor:
        """float32 [N], nats: with one bucket for the leftover mass, or renormalised to sum to 1."""
        mass, inside = self.p.sum(0), -(self.p * self.logprobs).sum(0)
        if renormalised:
            return inside / mass + mass.log()
        tail = (1 - mass).clamp_min(0)
        return inside - torch.xlogy(tail, tail)

    def first(self) -> tuple[Tensor, Tensor]:
        """The most probable token's id [N], NO_TOKEN where the list is empty, and its log-prob; ties go to the
        earlier entry."""
        best = self.logprobs.amax(0)
        if torch.equal(self.logprobs[0], best):
            ids = self.ids[0]
        else:
            place = first_place(compare(operator.eq, self.logprobs, best[None])).sub_(1).clamp_min_(0)
            ids = self.ids.gather(0, place[None])[0]
        return ids.masked_fill(self.empty, NO_TOKEN), best

    def rank(self, token_ids: Tensor) -> Tensor:
        """int64 [N], 1-based rank by probability of token_ids [N], 0 or more, in the list, 0 where it is not in it."""
        place = first_place(compare(operator.eq, self.ids, token_ids.to(self.ids.dtype)[None]))
        own = self.logprobs.gather(0, (place - 1).clamp_min_(0)[None])
        better = count(compare(operator.gt, self.logprobs, own)).to(torch.int64)
        return better.add_(1).mul_(place.clamp_max_(1))
