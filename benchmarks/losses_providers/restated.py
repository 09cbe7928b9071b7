"""Other projects' algorithms, written down from their formulas.

DIVERGENCES: TRL 1.16's chunked divergence, without the LM heads that it projects from: float32 tiles of both sides'
logits, each folded into online statistics; the backward goes over the tiles again. slime: its log-prob and entropy,
which keep the float32 logits and one softmax.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from .problem import JSD_WEIGHT, Problem
from .provider import Outputs, Provider

TILE_TOKENS, TILE_COLUMNS = 4096, 32_768
BETA = {"forward_kl": 0.0, "jsd": JSD_WEIGHT, "reverse_kl": 1.0}


def _tiles(n: int, vocab: int) -> Iterator[tuple[slice, slice]]:
    for row in range(0, n, TILE_TOKENS):
        for column in range(0, vocab, TILE_COLUMNS):
            yield slice(row, min(row + TILE_TOKENS, n)), slice(column, min(column + TILE_COLUMNS, vocab))


class _OnlineMean:
    """Per row over the columns seen so far: the log of the sum of exp(z), and the softmax's mean of other values."""

    def __init__(self, n: int, device: torch.device):
        self.top = torch.full((n,), -math.inf, device=device)
        self.total, self.weighted = torch.zeros(2, n, device=device)

    def fold(self, rows: slice, z: Tensor, values: Tensor) -> None:
        top = torch.maximum(self.top[rows], z.amax(-1))
        rescale, e = (self.top[rows] - top).exp(), (z - top[:, None]).exp()
        self.total[rows] = self.total[rows] * rescale + e.sum(-1)
        self.weighted[rows] = self.weighted[rows] * rescale + (e * values).sum(-1)
        self.top[rows] = top

    @property
    def lse(self) -> Tensor:
        return self.top + self.total.log()

    @property
    def mean(self) -> Tensor:
        return self.weighted / self.total


class _TiledDivergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, beta: float) -> Tensor:
        n, vocab = student.shape
        s_side, t_side = _OnlineMean(n, student.device), _OnlineMean(n, student.device)
        for rows, columns in _tiles(n, vocab):
            s, t = student[rows, columns].float(), teacher[rows, columns].float()
            s_side.fold(rows, s, s - t)
            t_side.fold(rows, t, t - s)
        if beta == 0:
            value = kept = t_side.mean - t_side.lse + s_side.lse
        elif beta == 1:
            value = kept = s_side.mean - s_side.lse + t_side.lse
        else:
            value, kept = torch.zeros(2, n, device=student.device)
            for rows, columns in _tiles(n, vocab):
                log_s = student[rows, columns].float() - s_side.lse[rows, None]
                log_t = teacher[rows, columns].float() - t_side.lse[rows, None]
                log_m = torch.logaddexp(log_s + math.log1p(-beta), log_t + math.log(beta))
                student_part = (log_s.exp() * (log_s - log_m)).sum(-1)
                kept[rows] += student_part
                value[rows] += beta * (log_t.exp() * (log_t - log_m)).sum(-1) + (1 - beta) * student_part
        ctx.save_for_backward(student, teacher, s_side.lse, t_side.lse, kept)
        ctx.beta = beta
        return value

    @staticmethod
    def backward(ctx, upstream: Tensor):
        student, teacher, s_lse, t_lse, kept = ctx.saved_tensors
        beta, gradient = ctx.beta, torch.empty_like(student)
        for rows, columns in _tiles(*student.shape):
            log_s = student[rows, columns].float() - s_lse[rows, None]
            log_t = teacher[rows, columns].float() - t_lse[rows, None]
            if beta == 0:
                slope = log_s.exp() - log_t.exp()
            elif beta == 1:
                slope = log_s.exp() * (log_s - log_t - kept[rows, None])
            else:
                log_m = torch.logaddexp(log_s + math.log1p(-beta), log_t + math.log(beta))
                slope = (1 - beta) * log_s.exp() * (log_s - log_m - kept[rows, None])
            gradient[rows, columns] = slope * upstream[rows, None]
        return gradient, None, None


class _SavedSoftmax(torch.autograd.Function):
    """log p(y) = z_y - lse and H = lse - sum p z; d log p(y) = [v = y] - p, dH = p (sum p z - z)."""

    @staticmethod
    def forward(ctx, logits: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        z = logits.float()
        top = z.amax(-1, keepdim=True)
        p = z - top
        sampled = p.gather(1, token_ids[:, None])
        total = p.exp_().sum(-1, keepdim=True)
        p.div_(total)
        mean = torch.einsum("nv,nv->n", p, z)[:, None] if z.is_cuda else (p * z).sum(-1, keepdim=True)
        ctx.save_for_backward(z, p, mean, token_ids)
        ctx.dtype = logits.dtype
        return (sampled - total.log())[:, 0], (top + total.log() - mean)[:, 0]

    @staticmethod
    def backward(ctx, of_logprob: Tensor, of_entropy: Tensor):
        z, p, mean, token_ids = ctx.saved_tensors
        entropy_part = (mean - z).mul_(p).mul_(of_entropy[:, None])
        gradient = p.mul(-of_logprob[:, None])
        gradient.scatter_add_(1, token_ids[:, None], of_logprob[:, None])
        return gradient.add_(entropy_part).to(ctx.dtype), None


def _divergence(beta: float, problem: Problem) -> Outputs:
    return (_TiledDivergence.apply(problem.student, problem.teacher, beta),)


def _entropy_logprob(problem: Problem) -> Outputs:
    return _SavedSoftmax.apply(problem.student, problem.token_ids)


DIVERGENCES = {loss: partial(_divergence, beta) for loss, beta in BETA.items()}
"""TRL's, in torch."""


def slime(device: str) -> Provider:
    return Provider("slime", dict.fromkeys(("entropy_logprob", "entropy_logprob_grad"), _entropy_logprob))
