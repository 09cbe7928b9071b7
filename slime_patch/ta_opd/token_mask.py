"""Scores and loss masks in, the exact set of distilled tokens out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .axes import Axes, build_axes
from .methods import find_selector
from .options import Options
from .scores import TokenScores
from .selection import Ranking, budget, random_keys, random_keys_released, select_ranked


@dataclass(frozen=True)
class Selection:
    """keep: bool [N], the distilled tokens, never one whose loss mask was 0.

    score: float32 [N], the method's score, NaN where it has none (random, the split budget, tokens not ranked).
    axes: over the valid tokens, None where the method reads none. valid, kept: counts. not_scored: valid tokens that
    a missing or NaN score, or no teacher, kept out. tied: kept tokens whose score equals that of one left out, so
    that a tie-break chose them. degenerate: names of the axes without spread, whose ties the raw scores broke.
    """

    keep: Tensor
    score: Tensor
    axes: Axes | None
    valid: int
    kept: int
    not_scored: int
    tied: int
    degenerate: tuple[str, ...]


def select_tokens(
    scores: TokenScores | None,
    loss_mask: Tensor,
    lengths: Tensor,
    options: Options,
    rollout_id: int = 0,
    known: Tensor | None = None,
) -> Selection:
    """Select ceil(rho N) of the N_valid tokens, by batch or by sample, under the method named in options.

    scores: N tokens, None for methods that need none. loss_mask: [N], nonzero where the token may be trained on.
    lengths: integer [B], response lengths in batch order, summing to N. Scores and lengths are on the CPU.
    known: bool [N] or None, the token has a teacher's signal at all; one that has none is never kept, by full and
    random neither. Fewer than the budget are kept where a method restricts itself (q3*) or scores are missing.
    Raises ValueError when the sizes disagree or a needed score is absent.
    """
    selector = find_selector(options.budget_mask)
    if options.score_variant == "released" and options.budget_ratio == 1:
        selector = find_selector("full")
    n = len(loss_mask)
    if int(lengths.sum()) != n:
        raise ValueError(f"response lengths sum to {int(lengths.sum())}, the loss mask has {n} tokens")
    if scores is None and selector.axes:
        raise ValueError(f"--opd-budget-mask {options.budget_mask} needs token scores")
    if scores is not None and len(scores) != n:
        raise ValueError(f"{len(scores)} token scores, but the loss mask has {n} tokens")
    valid = loss_mask.cpu() != 0
    inside = np.flatnonzero(valid.numpy())
    sample = np.repeat(np.arange(len(lengths)), lengths.numpy())[inside]
    axes = _axes(selector, scores, valid, lengths, options, len(inside), rollout_id)

    there, tied = (None if known is None else known.numpy()[inside]), 0
    keep = np.zeros(len(inside), dtype=bool)
    score = np.full(len(inside), np.nan, dtype=np.float32)
    for rows in _groups(sample, selector.scope or options.budget_scope):
        part = axes.rows(rows)
        count = budget(options.budget_ratio, len(part), selector.round_down)
        ranking = selector.rank(part, count)
        if there is not None:
            ranking = replace(ranking, eligible=ranking.eligible & there[rows])
        keep[rows] = select_ranked(ranking, count, sample[rows], options.budget_min_keep_per_sample)
        if ranking.keys[0].dtype.kind == "f":
            score[rows] = np.where(ranking.eligible, ranking.keys[0], np.nan)
        tied += _tied(ranking, keep[rows])

    whole_keep, whole_score = np.zeros(n, dtype=bool), np.full(n, np.nan, dtype=np.float32)
    whole_keep[inside], whole_score[inside] = keep, score
    return Selection(
        torch.from_numpy(whole_keep),
        torch.from_numpy(whole_score),
        axes if selector.axes else None,
        valid=len(inside),
        kept=int(keep.sum()),
        not_scored=len(inside) - int((axes.finite(axes.raw) & (True if there is None else there)).sum()),
        tied=tied,
        degenerate=axes.degenerate,
    )


def _tied(ranking: Ranking, keep: np.ndarray) -> int:
    key = ranking.keys[0]
    if not keep.any() or key.dtype.kind != "f":
        return 0
    at_least = keep & (key == key[keep].min())
    return int(at_least.sum()) if (ranking.eligible & ~keep & (key == key[keep].min())).any() else 0


def _axes(selector, scores, valid, lengths, options, count, rollout_id) -> Axes:
    uniform = np.zeros(count, np.uint64)
    if selector.mask == "random":
        draw = random_keys_released if options.score_variant == "released" else random_keys
        uniform = draw(options.budget_mask_seed, rollout_id, count)
    if not selector.axes:
        return Axes(uniform)
    names = [name for name in selector.axes if name != "dc" or options.score_variant == "released"]
    return build_axes(scores, valid, lengths, options, names, uniform)


def _groups(sample: np.ndarray, scope: str) -> list[slice]:
    if scope == "batch" or not len(sample):
        return [slice(0, len(sample))]
    starts = np.flatnonzero(np.r_[True, sample[1:] != sample[:-1]])
    return [slice(a, b) for a, b in zip(starts, np.r_[starts[1:], len(sample)], strict=True)]
