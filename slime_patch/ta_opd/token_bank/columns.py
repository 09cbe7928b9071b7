"""The columns of the per-token table: everything known about each response token of a rollout, block by block.

Names are the released TA-OPD's, with our own beside them: Hs, Ht (full-vocabulary entropies), KLr (full-vocabulary
reverse KL), Cjaccard, and the provenance of H, D and C. A number that is not known is NaN or masked, never zero.
Axes: N response tokens of a rollout of B samples, M of them in a block, K entries of a top-k list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..axes import Axes, build_axes
from ..methods import find_selector
from ..options import Options
from ..scores import TokenScores, soft_or
from ..selection import Floats
from ..support import Supports
from ..support_parts import Parts, known_of, no_rows, row_blocks
from ..token_mask import Selection
from .list_columns import list_columns

SCHEMA_VERSION = 1
QUADRANTS = ("", "Q1_highH_highD", "Q2_highH_lowD", "Q3_lowH_highD", "Q4_lowH_lowD")
ROWS = 16_384

Columns = dict[str, Any]


@dataclass(frozen=True)
class Text:
    """A column of few different texts: names[codes[i]] is row i's. codes: integer [M]."""

    names: tuple[str, ...]
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def tolist(self) -> list[str]:
        return [self.names[code] for code in self.codes.tolist()]

    @staticmethod
    def constant(name: str, count: int) -> Text:
        return Text((name,), np.zeros(count, np.int8))


@dataclass(frozen=True)
class Rollout:
    """One scored rollout batch: N response tokens of B samples.

    supports: of the batch, or a sequence of its samples' (they are never joined). token_ids, loss_mask: integer [N].
    student_logprob, teacher_logprob: float32 [N], nats, of the sampled token, NaN where not known. lengths,
    prompt_lengths, sample_index, group_index: integer [B]. truncated: bool [B].
    """

    rollout_id: int
    seed: int
    supports: Parts
    token_ids: Tensor
    student_logprob: Tensor
    teacher_logprob: Tensor
    loss_mask: Tensor
    lengths: Tensor
    prompt_lengths: Tensor
    sample_index: Tensor
    group_index: Tensor
    truncated: Tensor


def token_columns(
    rollout: Rollout, scores: TokenScores, selection: Selection, options: Options, block: int = ROWS
) -> Iterator[Columns]:
    """Every column of the table, in order, for `block` rows after another; one block without rows for an empty batch.

    A column is [M]: a numpy array (float: NaN is null), a masked array (integers), a Text, or an [M, K] array of a raw
    list. The normalised axes are filled on valid tokens only; memory beside the inputs and those is a block's.
    """
    valid = (rollout.loss_mask != 0).numpy()
    axes = _axes(rollout, scores, selection, options)
    sample = np.repeat(np.arange(len(rollout.lengths), dtype=np.int32), rollout.lengths.numpy())
    teacher_entropy, reverse_kl = (known_of(rollout.supports, name) for name in ("teacher_entropy", "reverse_kl"))
    past = 0
    for rows, raw_lists in _blocks(rollout, options, block):
        inside = valid[rows]
        count = int(np.count_nonzero(inside))
        yield (
            _sample_columns(rollout, sample[rows], rows, options)
            | list_columns(scores.rows(rows), teacher_entropy[rows], reverse_kl[rows])
            | raw_lists
            | _selection_columns(selection, axes.rows(slice(past, past + count)), inside, rows, options)
        )
        past += count


def _blocks(rollout: Rollout, options: Options, block: int) -> Iterator[tuple[slice, Columns]]:
    """Rows of the table and, where they are kept, the raw lists of these rows."""
    n = len(rollout.token_ids)
    if not options.token_bank_raw_topk:
        yield from ((slice(start, min(start + block, n)), {}) for start in range(0, max(n, 1), block))
    elif not n:
        yield slice(0, 0), _raw_lists(no_rows(rollout.supports, options.topk_metrics_k))
    else:
        for rows, supports in row_blocks(rollout.supports, block):
            yield rows, _raw_lists(supports)


def _axes(rollout: Rollout, scores: TokenScores, selection: Selection, options: Options) -> Axes:
    """The axes h, d, c and dc over the valid tokens; those that the selection was made on are not built again."""
    valid = rollout.loss_mask != 0
    built = selection.axes or Axes(np.zeros(int(valid.sum()), dtype=np.uint64))
    names = [name for name in ("h", "d", "c", "dc") if name not in built.unit]
    more = build_axes(scores, valid, rollout.lengths, options, names, built.uniform)
    return Axes(
        built.uniform,
        raw=built.raw | more.raw,
        unit=built.unit | more.unit,
        median=built.median | more.median,
        released=more.released,
    )


def _sample_columns(rollout: Rollout, sample: np.ndarray, rows: slice, options: Options) -> Columns:
    """What is known without the top-k lists. sample: integer [M], each row's place in the batch."""
    n, lengths = len(sample), rollout.lengths.numpy()
    starts = np.cumsum(lengths) - lengths
    position = np.arange(rows.start or 0, rows.stop) - starts[sample]
    length, prompt = lengths[sample], rollout.prompt_lengths.numpy()[sample]
    student, teacher = rollout.student_logprob[rows].numpy(), rollout.teacher_logprob[rows].numpy()
    return {
        "schema_version": np.full(n, SCHEMA_VERSION, np.int32),
        "pair_id": Text.constant(options.token_bank_pair_id, n),
        "teacher_name": Text.constant(options.teacher_name, n),
        "student_name": Text.constant(options.student_name, n),
        "seed": np.full(n, rollout.seed, np.int64),
        "rollout_id": np.full(n, rollout.rollout_id, np.int64),
        "sample_index": rollout.sample_index.numpy()[sample],
        "group_index": rollout.group_index.numpy()[sample],
        "sample_ordinal": sample.astype(np.int64),
        "tok_pos": position,
        "pos_norm": position / np.maximum(length - 1, 1),
        "prompt_len": prompt,
        "resp_len": length,
        "total_len": length + prompt,
        "truncated": rollout.truncated.numpy()[sample].astype(np.int8),
        "token_id": rollout.token_ids[rows].numpy(),
        "student_logp_sampled": student,
        "teacher_logp_sampled": teacher,
        "sampled_reverse_kl": student - teacher,
        "sampled_teacher_adv": teacher - student,
        "loss_mask_original": (rollout.loss_mask[rows] != 0).to(torch.int8).numpy(),
    }


def _raw_lists(supports: Supports) -> Columns:
    return {
        "student_top_ids": supports.student.ids.numpy(),
        "student_top_logps": supports.student.logprobs.numpy(),
        "teacher_top_ids": supports.teacher.ids.numpy(),
        "teacher_top_logps": supports.teacher.logprobs.numpy(),
    }


def _selection_columns(selection: Selection, axes: Axes, inside: np.ndarray, rows: slice, options: Options) -> Columns:
    """axes: of the block's valid tokens; inside: bool [M], which those are."""
    n = len(inside)

    def spread(values: Floats) -> Floats:
        if len(values) == n:
            return values
        whole = np.full(n, np.nan, dtype=np.float32)
        whole[inside] = values
        return whole

    h, d, c, dc = (spread(axes.unit[name]) for name in ("h", "d", "c", "dc"))
    q = spread(axes.learnable)
    proxy = spread(axes.raw["C"])
    quadrant = np.zeros(n, dtype=np.int8)
    quadrant[inside] = axes.quadrant
    return {
        "Cprefix_ema": proxy if options.compat_proxy == "prefix_ema" else np.full(n, np.nan, np.float32),
        "budget_method": Text.constant(find_selector(options.budget_mask).mask, n),
        "budget_ratio": np.full(n, options.budget_ratio),
        "budget_score": selection.score[rows].numpy(),
        "budget_keep": selection.keep[rows].to(torch.int8).numpy(),
        "H_norm": h,
        "D_norm": d,
        "C_norm": c,
        "DC_norm": dc,
        "Dlearn": d * c,
        "Dincompat": d * (1 - c),
        "tip_score": soft_or(h, d),
        "ca_softor_score": soft_or(h, q),
        "split_ca_score": (1 - h) * q,
        "quadrant": Text(QUADRANTS, quadrant),
    }
