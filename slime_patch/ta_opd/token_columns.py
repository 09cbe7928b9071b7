"""The columns of the per-token table: everything known about each response token of a rollout.

Names are the released TA-OPD's, with our own beside them: Hs, Ht (full-vocabulary entropies), KLr (full-vocabulary
reverse KL), Cjaccard, and the provenance of H, D and C. A number that is not known is NaN or masked, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .axes import Axes, build_axes
from .methods import find_selector
from .options import Options
from .scores import TokenScores, entropy_of_list, soft_or
from .support import NO_TOKEN, Provenance, Supports, TopK
from .token_mask import Selection

SCHEMA_VERSION = 1
QUADRANTS = ("", "Q1_highH_highD", "Q2_highH_lowD", "Q3_lowH_highD", "Q4_lowH_lowD")

Columns = dict[str, Any]


@dataclass(frozen=True)
class Rollout:
    """One scored rollout batch: N response tokens of B samples.

    token_ids, loss_mask: integer [N]. student_logprob, teacher_logprob: float32 [N], nats, of the sampled token, NaN
    where not known. lengths, prompt_lengths, sample_index, group_index: integer [B]. truncated: bool [B].
    """

    rollout_id: int
    seed: int
    supports: Supports
    token_ids: Tensor
    student_logprob: Tensor
    teacher_logprob: Tensor
    loss_mask: Tensor
    lengths: Tensor
    prompt_lengths: Tensor
    sample_index: Tensor
    group_index: Tensor
    truncated: Tensor


def token_columns(rollout: Rollout, scores: TokenScores, selection: Selection, options: Options) -> Columns:
    """Every column of the table, in order, each [N]: numpy arrays (floats: NaN is null), masked arrays (integers),
    lists of text, or [N, K] pairs of the raw lists. The normalised axes are filled on valid tokens only."""
    supports, lengths = rollout.supports, rollout.lengths
    n = len(supports)
    valid = rollout.loss_mask != 0
    axes = build_axes(
        scores, valid, lengths, options, ("h", "d", "c", "dc"), np.zeros(int(valid.sum()), dtype=np.uint64)
    )
    position = torch.arange(n) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)

    def per_sample(values: Tensor) -> np.ndarray:
        return torch.repeat_interleave(values, lengths).numpy()

    columns: Columns = {
        "schema_version": np.full(n, SCHEMA_VERSION, np.int32),
        "pair_id": [options.token_bank_pair_id] * n,
        "teacher_name": [options.teacher_name] * n,
        "student_name": [options.student_name] * n,
        "seed": np.full(n, rollout.seed, np.int64),
        "rollout_id": np.full(n, rollout.rollout_id, np.int64),
        "sample_index": per_sample(rollout.sample_index),
        "group_index": per_sample(rollout.group_index),
        "sample_ordinal": per_sample(torch.arange(len(lengths))),
        "tok_pos": position.numpy(),
        "pos_norm": position.numpy() / np.maximum(per_sample(lengths) - 1, 1),
        "prompt_len": per_sample(rollout.prompt_lengths),
        "resp_len": per_sample(lengths),
        "total_len": per_sample(lengths + rollout.prompt_lengths),
        "truncated": per_sample(rollout.truncated.to(torch.int8)),
        "token_id": rollout.token_ids.numpy(),
        "student_logp_sampled": rollout.student_logprob.numpy(),
        "teacher_logp_sampled": rollout.teacher_logprob.numpy(),
        "sampled_reverse_kl": (rollout.student_logprob - rollout.teacher_logprob).numpy(),
        "sampled_teacher_adv": (rollout.teacher_logprob - rollout.student_logprob).numpy(),
        "loss_mask_original": (rollout.loss_mask != 0).to(torch.int8).numpy(),
    }
    columns |= _list_columns(supports, rollout.token_ids, scores)
    if options.token_bank_raw_topk:
        columns |= {
            "student_top_ids": supports.student.ids.numpy(),
            "student_top_logps": supports.student.logprobs.numpy(),
            "teacher_top_ids": supports.teacher.ids.numpy(),
            "teacher_top_logps": supports.teacher.logprobs.numpy(),
        }
    return columns | _selection_columns(selection, axes, valid, options)


def _list_columns(supports: Supports, token_ids: Tensor, scores: TokenScores) -> Columns:
    """What the two top-k lists say: first choices, masses, entropies, divergences, compatibility, ranks."""
    student, teacher = supports.student, supports.teacher
    teacher_first = _first(teacher)
    renormalised = {"s": entropy_of_list(student, renormalised=True), "t": entropy_of_list(teacher, renormalised=True)}
    exact = scores.compatibility_provenance == int(Provenance.EXACT)
    rank_s, rank_t = _rank(student, token_ids), _rank(teacher, token_ids)
    reached = (student.ids == teacher_first[:, None]).any(1)
    no_student, no_teacher = ((topk.ids < 0).all(1).numpy() for topk in (student, teacher))
    return {
        "student_top1_id": _known(_first(student)),
        "teacher_top1_id": _known(teacher_first),
        "student_top1_prob": _first_probability(student),
        "teacher_top1_prob": _first_probability(teacher),
        "student_topk_mass": _mass(student),
        "teacher_topk_mass": _mass(teacher),
        "Hs": scores.entropy.numpy(),
        "Hs_provenance": scores.entropy_provenance.numpy(),
        "Ht": _optional(supports.teacher_entropy, len(supports)),
        "Hs_topk": renormalised["s"].numpy(),
        "Ht_topk": renormalised["t"].numpy(),
        "Hs_topk_norm": (renormalised["s"] / _log_size(student)).numpy(),
        "Ht_topk_norm": (renormalised["t"] / _log_size(teacher)).numpy(),
        "KLf_union": scores.disagreement.numpy(),
        "KLf_provenance": scores.disagreement_provenance.numpy(),
        "KLr_union": scores.reverse_disagreement.numpy(),
        "KLr": _optional(supports.reverse_kl, len(supports)),
        "Cmass": scores.compatibility.numpy(),
        "Cmass_topk": scores.compatibility_bound.numpy(),
        "Cmass_true": torch.where(exact, scores.compatibility, torch.nan).numpy(),
        "Cmass_exact": exact.to(torch.int8).numpy(),
        "Cmass_provenance": scores.compatibility_provenance.numpy(),
        "Coverlap": scores.overlap.numpy(),
        "Cjaccard": scores.jaccard.numpy(),
        "CBC": scores.bhattacharyya.numpy(),
        "reach_t1": np.ma.masked_array(reached.to(torch.int8).numpy(), mask=no_student | no_teacher),
        "target_in_student_topk": np.ma.masked_array((rank_s > 0).to(torch.int8).numpy(), mask=no_student),
        "target_in_teacher_topk": np.ma.masked_array((rank_t > 0).to(torch.int8).numpy(), mask=no_teacher),
        "target_student_rank": np.ma.masked_equal(rank_s.numpy(), 0),
        "target_teacher_rank": np.ma.masked_equal(rank_t.numpy(), 0),
    }


def _selection_columns(selection: Selection, axes: Axes, valid: Tensor, options: Options) -> Columns:
    inside = np.flatnonzero(valid.numpy())

    def spread(values: np.ndarray) -> np.ndarray:
        whole = np.full(len(valid), np.nan, dtype=np.float32)
        whole[inside] = values
        return whole

    h, d, c, q = axes.unit["h"], axes.unit["d"], axes.unit["c"], axes.learnable
    quadrant = np.zeros(len(valid), dtype=np.int8)
    quadrant[inside] = axes.quadrant
    return {
        "Cprefix_ema": spread(axes.raw["C"] if options.compat_proxy == "prefix_ema" else np.nan),
        "budget_method": [find_selector(options.budget_mask).mask] * len(valid),
        "budget_ratio": np.full(len(valid), options.budget_ratio),
        "budget_score": selection.score.numpy(),
        "budget_keep": selection.keep.to(torch.int8).numpy(),
        "H_norm": spread(h),
        "D_norm": spread(d),
        "C_norm": spread(c),
        "DC_norm": spread(axes.unit["dc"]),
        "Dlearn": spread(d * c),
        "Dincompat": spread(d * (1 - c)),
        "tip_score": spread(soft_or(h, d)),
        "ca_softor_score": spread(soft_or(h, q)),
        "split_ca_score": spread((1 - h) * q),
        "quadrant": [QUADRANTS[number] for number in quadrant],
    }


def _first(topk: TopK) -> Tensor:
    """The most probable token's id [N], NO_TOKEN where the list is empty."""
    held = topk.logprobs.masked_fill(topk.ids < 0, -torch.inf)
    best = topk.ids.gather(1, held.argmax(1, keepdim=True))[:, 0]
    return best.masked_fill((topk.ids < 0).all(1), NO_TOKEN)


def _first_probability(topk: TopK) -> np.ndarray:
    held = topk.logprobs.masked_fill(topk.ids < 0, -torch.inf).amax(1)
    return held.exp().masked_fill((topk.ids < 0).all(1), torch.nan).numpy()


def _mass(topk: TopK) -> np.ndarray:
    held = topk.logprobs.masked_fill(topk.ids < 0, -torch.inf)
    return held.exp().sum(1).masked_fill((topk.ids < 0).all(1), torch.nan).numpy()


def _log_size(topk: TopK) -> Tensor:
    return (topk.ids >= 0).sum(1).clamp_min(2).log()


def _rank(topk: TopK, token_ids: Tensor) -> Tensor:
    """1-based rank [N] of the sampled token in the list by probability, 0 where it is not in it."""
    here = (topk.ids == token_ids[:, None]) & (topk.ids >= 0)
    own = torch.where(here, topk.logprobs, -torch.inf).amax(1, keepdim=True)
    better = ((topk.logprobs > own) & (topk.ids >= 0)).sum(1)
    return torch.where(here.any(1), better + 1, 0)


def _known(ids: Tensor) -> np.ma.MaskedArray:
    return np.ma.masked_equal(ids.numpy(), NO_TOKEN)


def _optional(values: Tensor | None, n: int) -> np.ndarray:
    return np.full(n, np.nan, np.float32) if values is None else values.numpy()
