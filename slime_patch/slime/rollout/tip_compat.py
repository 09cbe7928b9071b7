"""Samples of slime -> supports of `ta_opd` -> a token mask -> what slime carries to its trainer.

A sample carries `opd_student` (TopKRows: its own top-k at each response token) and `opd_teacher` (TeacherSignal); what
it lacks is missing, never zero. Nothing here imports torch.distributed, ray, megatron or sglang.
"""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ta_opd.carrier import pack
from ta_opd.loss_plan import lists_of
from ta_opd.objective import slime_weights
from ta_opd.rollout_metrics import sample_statistics
from ta_opd.scores import TokenScores, token_scores
from ta_opd.slime_options import SlimeOptions
from ta_opd.support import Supports, TopK
from ta_opd.teacher.signal import TeacherSignal, TopKRows
from ta_opd.token_bank.bank import write_rollout
from ta_opd.token_bank.columns import Rollout, token_columns
from ta_opd.token_mask import Selection, select_tokens
from torch import Tensor


def asks_teacher(args: Namespace) -> bool:
    """OPD with a teacher behind a server is on."""
    return bool(getattr(args, "use_opd", False)) and getattr(args, "opd_type", None) == "sglang"


def teacher_urls(args: Namespace, options: SlimeOptions) -> list[str]:
    """The teacher's /generate URLs: --opd-teacher-url, else --rm-url; none where every sample names its own."""
    given = options.teacher_url or getattr(args, "rm_url", None) or ""
    return [url.strip() for url in given.split(",") if url.strip()]


@dataclass(frozen=True)
class Batch:
    """A rollout batch of B samples and N response tokens, flat, samples one after another.

    valid: bool [N], in the sample's loss mask. lengths, rollout: int64 [B], response lengths and the number 0..G-1 of
    the rollout a sample belongs to. student_logprob, teacher_logprob: float32 [N], nats, of the sampled tokens, NaN
    where not known.
    """

    samples: Sequence[Any]
    options: SlimeOptions
    valid: Tensor
    lengths: Tensor
    rollout: Tensor
    student_logprob: Tensor
    teacher_logprob: Tensor

    @cached_property
    def known(self) -> Tensor:
        """bool [N], the teacher gave the sampled token a probability and, where the loss reads one, a list."""
        known = self.teacher_logprob.isfinite()
        if lists_of(self.options):
            known &= torch.cat([(topk.ids >= 0).any(1) for topk in self.teacher_lists] or [known])
        return known

    @cached_property
    def teacher_lists(self) -> list[TopK]:
        """The teacher's lists that the loss reads, one for each sample; views of the sample's arrays, not copies."""
        return [_tensors(teacher_list(teacher_signal(s), lists_of(self.options))) for s in self.samples]

    @cached_property
    def token_ids(self) -> Tensor:
        """int64 [N], the response tokens."""
        return _joined([_response_ids(sample) for sample in self.samples], torch.int64)

    @cached_property
    def supports(self) -> list[Supports]:
        """Both top-k lists of each sample; views of the sample's arrays, not copies."""
        return [_supports(sample, self.options) for sample in self.samples]

    @cached_property
    def scores(self) -> TokenScores | None:
        """Scores of the N tokens, None where no top-k was asked for."""
        if self.options.topk_metrics_k == 0:
            return None
        token_ids = self.token_ids if self.options.token_bank_dir else None
        return token_scores(self.supports, self.options.score_variant, token_ids)

    def failures(self) -> Counter[str]:
        """Samples without a teacher's answer, by reason."""
        return Counter(signal.failure for signal in map(teacher_signal, self.samples) if signal.failure)


def batch_of(samples: Sequence[Any], options: SlimeOptions) -> Batch:
    """Gather the flat arrays of a rollout batch."""
    ids: dict[Any, int] = {}
    keys = [_rollout_key(sample, index) for index, sample in enumerate(samples)]
    return Batch(
        samples,
        options,
        valid=_joined([loss_mask(sample) for sample in samples], torch.bool),
        lengths=torch.tensor([sample.response_length for sample in samples], dtype=torch.int64),
        rollout=torch.tensor([ids.setdefault(key, len(ids)) for key in keys], dtype=torch.int64),
        student_logprob=_joined([_rollout_logprob(sample) for sample in samples], torch.float32),
        teacher_logprob=_joined([teacher_signal(sample).logprobs for sample in samples], torch.float32),
    )


def _rollout_key(sample: Any, index: int) -> Any:
    """What slime tells rollouts apart by: samples that were split from one share their rollout_id (v0.3.0: group_id,
    else their index)."""
    if hasattr(sample, "group_id"):
        return ("rollout", sample.index if sample.group_id is None else sample.group_id)
    shared = getattr(sample, "rollout_id", None)
    return index if shared is None else ("rollout", shared)


def _joined(parts: list[np.ndarray], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.concatenate(parts)).to(dtype) if parts else torch.zeros(0, dtype=dtype)


def loss_mask(sample: Any) -> np.ndarray:
    """bool [R]: the tokens slime will train on before any selection."""
    if sample.remove_sample:
        return np.zeros(sample.response_length, bool)
    if sample.loss_mask is None:
        return np.ones(sample.response_length, bool)
    mask = np.asarray(sample.loss_mask) != 0
    assert len(mask) == sample.response_length, f"loss mask of {len(mask)} for {sample.response_length} response tokens"
    return mask


def student_topk(sample: Any, k: int) -> TopKRows:
    """The student's top-k [R, k] at each response token; missing rows where it was not recorded, and all of them where
    there are more rows than tokens: they belong to another response."""
    rows = getattr(sample, "opd_student", None)
    rows = TopKRows.missing(0, k) if rows is None else rows
    if rows.k != k:
        raise ValueError(f"a sample holds the student's top-{rows.k}; --opd-topk-metrics-k is {k}")
    if len(rows) > sample.response_length:
        rows = TopKRows.missing(0, k)
    return (
        rows
        if len(rows) == sample.response_length
        else rows.then(TopKRows.missing(sample.response_length - len(rows), k))
    )


def teacher_signal(sample: Any) -> TeacherSignal:
    """The teacher's answer about a sample; an absent one where it was never asked or answers another response."""
    signal = getattr(sample, "opd_teacher", None)
    if signal is None:
        return TeacherSignal.absent(sample.response_length, 0, "not_asked")
    if len(signal) != sample.response_length:
        return TeacherSignal.absent(sample.response_length, signal.topk.k, "another_response")
    return signal


def teacher_list(signal: TeacherSignal, k: int) -> TopKRows:
    """The teacher's top-k [R, k], the first columns of a longer list; missing rows where it gave a shorter one."""
    if signal.topk.k < k:
        return TopKRows.missing(len(signal), k)
    return TopKRows(signal.topk.ids[:, :k], signal.topk.logprobs[:, :k])


def _tensors(rows: TopKRows) -> TopK:
    return TopK(torch.from_numpy(rows.ids), torch.from_numpy(rows.logprobs))


def _rollout_logprob(sample: Any) -> np.ndarray:
    if sample.rollout_log_probs is None:
        return np.full(sample.response_length, np.nan, np.float32)
    return np.asarray(sample.rollout_log_probs, dtype=np.float32)


def _supports(sample: Any, options: SlimeOptions) -> Supports:
    k, signal = options.topk_metrics_k, teacher_signal(sample)
    student = student_topk(sample, k)
    exact = signal.on_student
    if exact is None and options.exact_cmass:
        exact = np.full(student.ids.shape, np.nan, np.float32)
    return Supports(
        _tensors(student),
        _tensors(teacher_list(signal, k)),
        teacher_on_student=None if exact is None else torch.from_numpy(exact),
    )


def select(batch: Batch, rollout_id: int) -> Selection:
    """The distilled tokens of a rollout batch."""
    return select_tokens(
        batch.scores, batch.valid, batch.lengths, batch.options, rollout_id=rollout_id, known=batch.known
    )


def statistics(batch: Batch, selection: Selection) -> Tensor:
    """float64 [B, S, 2], see ta_opd.rollout_metrics.SAMPLE_METRICS."""
    return sample_statistics(selection.keep, batch.valid, batch.known, batch.lengths, batch.scores)


def apply_mask(batch: Batch, selection: Selection, *, packed: bool, per_token: bool) -> None:
    """Write the mask into the samples: into the loss masks under the mask target `loss`, into the carrier in any case.

    packed: the trainer runs our advantage hook and reads [R, 2] rows, with the teacher's lists where the loss needs
    them; else `teacher_log_probs` stay [R] as slime's own trainer reads them, which the mask target `loss` alone can
    live with. per_token: slime runs with
    --calculate-per-token-loss. Raises ValueError for the mask target `opd` without the hook.
    """
    keep, options = selection.keep, batch.options
    masked = batch.valid
    if options.mask_target == "loss":
        masked = keep
        for sample, part in zip(batch.samples, keep.split(batch.lengths.tolist()), strict=True):
            sample.loss_mask = part.int().tolist()
    if packed:
        weight = slime_weights(
            keep, masked, batch.lengths, batch.rollout, normaliser=options.normaliser, per_token=per_token
        )
        if lists_of(options):
            _pack_with_lists(batch, weight)
            return
        rows = pack(batch.teacher_logprob, weight, batch.valid)
    else:
        if options.mask_target != "loss":
            raise ValueError(
                f"--opd-mask-target {options.mask_target} needs the advantage hook, --custom-advantage-function-path "
                "slime.backends.megatron_utils.opd_hooks.compute_advantages (slime v0.3.0 or later); "
                "train_opd.py fills it in"
            )
        # A token without a teacher is outside the loss mask: the student's log-prob only keeps the logs finite.
        rows = torch.where(batch.known, batch.teacher_logprob, batch.student_logprob.nan_to_num(0.0))
    for sample, part in zip(batch.samples, rows.split(batch.lengths.tolist()), strict=True):
        # A copy: a view would be pickled with the storage of the whole batch, once a sample.
        sample.teacher_log_probs = part.clone()


def _pack_with_lists(batch: Batch, weight: Tensor) -> None:
    lengths = batch.lengths.tolist()
    columns = (batch.teacher_logprob.split(lengths), weight.split(lengths), batch.valid.split(lengths))
    for sample, lists, *rows in zip(batch.samples, batch.teacher_lists, *columns, strict=True):
        sample.teacher_log_probs = pack(*rows, lists)


def write_token_bank(batch: Batch, selection: Selection, rollout_id: int, seed: int) -> None:
    """One row for each response token of the rollout; see ta_opd.token_bank.columns."""
    samples, options = batch.samples, batch.options
    scores = batch.scores
    if scores is None:
        raise ValueError("--opd-token-bank-dir needs --opd-topk-metrics-k above 0; the paper uses 16")
    rollout = Rollout(
        rollout_id=rollout_id,
        seed=seed,
        supports=batch.supports,
        token_ids=batch.token_ids,
        student_logprob=batch.student_logprob,
        teacher_logprob=batch.teacher_logprob,
        loss_mask=batch.valid,
        lengths=batch.lengths,
        prompt_lengths=torch.tensor([len(sample.tokens) - sample.response_length for sample in samples]),
        sample_index=torch.tensor([_number(sample.index, ordinal) for ordinal, sample in enumerate(samples)]),
        group_index=torch.tensor([_number(sample.group_index, -1) for sample in samples]),
        truncated=torch.tensor([sample.status == type(sample).Status.TRUNCATED for sample in samples]),
    )
    write_rollout(options.token_bank_dir, rollout_id, token_columns(rollout, scores, selection, options), options)


def _response_ids(sample: Any) -> np.ndarray:
    return np.asarray(sample.tokens[len(sample.tokens) - sample.response_length :], dtype=np.int64)


def _number(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
