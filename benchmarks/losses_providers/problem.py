"""The losses that are compared, and rows of logits to compare them on.

Axes: N rows, V vocabulary, K entries of the teacher's list. S is the student, T the teacher; nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

JSD_WEIGHT = 0.5
TAID_T = 0.6
GATE_TAU = 0.8
"""hard_add: the forward KL counts, with weight 1, where the teacher's entropy is above this."""
LIKELY = 32
STUDENT_ODDS, TEACHER_ODDS = 9, 19
"""Of a confident row's one token, against all others."""

LOSSES = (
    "forward_kl",
    "reverse_kl",
    "jsd",
    "taid",
    "entropy_aware",
    "topk_tail",
    "entropy_logprob",
    "entropy_logprob_grad",
)
WITHOUT_TEACHER = ("topk_tail", "entropy_logprob", "entropy_logprob_grad")
FORWARD_ONLY = ("entropy_logprob",)
READS = {"jsd": (4, 2), "topk_tail": (1, 1), "entropy_logprob": (1, 0), "entropy_logprob_grad": (1, 1)}
"""[N, V] tensors that the forward and the backward must read at least; every other loss (2, 2)."""


@dataclass(frozen=True)
class Problem:
    """student: [N, V], teacher: [N, V], None for a loss that takes no teacher logits. token_ids: int64 [N].

    top_ids int64, top_logprobs float32 [N, K]: the teacher's list, None for another loss than topk_tail.
    keep: bool [N]. weights: float32 [N], of the sum that is differentiated, 0 where not kept. near: bool [N], nearly
    converged rows.
    """

    loss: str
    student: Tensor
    teacher: Tensor | None
    token_ids: Tensor
    top_ids: Tensor | None
    top_logprobs: Tensor | None
    keep: Tensor
    weights: Tensor
    near: Tensor

    @cached_property
    def all_kept(self) -> bool:
        return bool(self.keep.all())

    @property
    def logits_bytes(self) -> int:
        return self.student.numel() * self.student.element_size()

    def passes(self) -> float:
        """[N, V] tensors that memory must carry at the least: what is kept is read, a gradient is written whole."""
        kept = float(self.keep.float().mean())
        return kept * sum(READS.get(self.loss, (2, 2))) + (self.loss not in FORWARD_ONLY)


def make_problem(
    loss: str,
    tokens: int,
    vocab: int,
    dtype: torch.dtype,
    device: str,
    *,
    top_k: int = 64,
    keep_ratio: float = 1.0,
    seed: int = 0,
) -> Problem:
    """Random rows whose likely tokens have about 90%, by turns: two nearly converged, T's logits S's + 0.3 noise (a KL
    of about 0.04), one apart, and one apart and confident: a single token has that share, of T more."""
    generator = torch.Generator(device).manual_seed(seed)
    student = torch.empty(tokens, vocab, dtype=dtype, device=device)
    teacher = None if loss in WITHOUT_TEACHER else torch.empty_like(student)
    token_ids = torch.empty(tokens, dtype=torch.int64, device=device)
    turn = torch.arange(tokens, device=device) % 4
    lists = [], []
    for start in range(0, tokens, 64):
        rows = slice(start, min(start + 64, tokens))
        s, t, token_ids[rows] = _rows(turn[rows], vocab, generator)
        student[rows] = s
        if teacher is not None:
            teacher[rows] = t
        if loss == "topk_tail":
            values, ids = t.to(dtype).float().log_softmax(-1).topk(top_k, -1)
            lists[0].append(ids)
            lists[1].append(values)
    keep = torch.zeros(tokens, dtype=torch.bool, device=device)
    keep[torch.randperm(tokens, generator=generator, device=device)[: math.ceil(keep_ratio * tokens)]] = True
    weights = torch.rand(tokens, generator=generator, device=device) + 0.5
    top_ids, top_logprobs = (torch.cat(parts) for parts in lists) if lists[0] else (None, None)
    weights = torch.where(keep, weights, 0)
    return Problem(loss, student, teacher, token_ids, top_ids, top_logprobs, keep, weights, turn < 2)


def _rows(turn: Tensor, vocab: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """(student, teacher) float32 [n, V] and sampled tokens [n]."""

    def normal(columns: int) -> Tensor:
        return torch.randn(len(turn), columns, generator=generator, device=turn.device)

    near, confident = turn[:, None] < 2, turn[:, None] == 3
    count = min(LIKELY, vocab // 4 + 1)
    likely = torch.randint(vocab, (len(turn), count), generator=generator, device=turn.device)
    sides = []
    for odds in STUDENT_ODDS, TEACHER_ODDS:
        z = 2.5 * normal(vocab)
        rest = z.logsumexp(-1, keepdim=True)
        one, many = z.scatter(1, likely[:, :1], rest + math.log(odds)), rest + math.log(9 / count) - 0.5 + normal(count)
        sides.append(torch.where(confident, one, z.scatter(1, likely, many)))
    s, t = sides
    return s, torch.where(near, s + 0.3 * normal(vocab), t), likely[:, 0]
