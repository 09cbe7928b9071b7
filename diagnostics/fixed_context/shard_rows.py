"""A shard's contexts to its columns: the student's hidden states beside a model's, or beside a server's lists.

Rows are worked off a few at a time, so that no [T, V] exists for a whole shard. N response tokens of a shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ta_opd import Supports, TopK
from ta_opd.scores import prefix_ema
from ta_opd.support import LOG_FLOOR, NO_TOKEN
from torch import Tensor

from .cache import ShardFiles
from .contexts import Context
from .models import Head, ScoringModel
from .plan import Plan
from .scoring_rows import Columns, dense_rows, list_rows, listed_rank, student_rows
from .server import ServerRows

_LOGITS = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Elements of one model's logits that exist at a time, per device type."""

Rows = tuple[Columns, Supports]


@dataclass(frozen=True)
class ShardScorer:
    """cache: the teacher's directory. teacher: its head, None for a server."""

    plan: Plan
    cache: Path
    student: ScoringModel
    teacher: Head | None

    def columns(self, number: int) -> Columns:
        """Every column of shard `number` that is scored. Raises ValueError, naming model, context and position, where
        logits are NaN."""
        shard, settings = self.plan.shards[number], self.plan.settings
        hidden = self.student.hidden_rows(shard, settings.batch(settings.student_device))
        tokens = torch.from_numpy(np.concatenate([context.response for context in shard])).long()
        if self.teacher is not None:
            columns, supports = self._beside_model(number, hidden, tokens)
        else:
            columns, supports = self._beside_server(self._answer(number, hidden), hidden, tokens)
        columns |= list_rows(supports, tokens, settings.ks)
        _refuse_nan(columns, shard, teacher="Ht" if self.teacher else "teacher_logp_sampled")
        return columns | {"Cprefix_ema": _prefix_ema(columns, shard)}

    def _beside_model(self, number: int, hidden: Tensor, tokens: Tensor) -> Rows:
        """Of a teacher whose hidden states are there."""
        other = ShardFiles(self.cache, "hidden").read(number, hidden.device)["hidden"]
        parts = []
        for rows in self._chunks(hidden):
            own = self._student_logits(hidden[rows])
            logits = own, self.teacher.logits(other[rows], self.plan.columns)
            parts.append(dense_rows(*logits, tokens[rows].to(hidden.device), max(self.plan.settings.ks)))
        return _joined(parts)

    def _beside_server(self, answer: ServerRows, hidden: Tensor, tokens: Tensor) -> Rows:
        """What the student's whole distributions and the teacher's lists tell."""
        parts = []
        for rows in self._chunks(hidden):
            logits, own = self._student_logits(hidden[rows]), tokens[rows].to(hidden.device)
            listed = TopK(answer.top.ids[rows], answer.top.logprobs[rows])
            on_student = None if answer.on_student is None else answer.on_student[rows]
            columns, supports = student_rows(logits, own, listed, on_student, max(self.plan.settings.ks))
            columns["teacher_logp_sampled"] = answer.sampled[rows].clamp(min=LOG_FLOOR)
            columns["target_teacher_rank"] = listed_rank(listed, tokens[rows])
            parts.append((columns, supports))
        return _joined(parts)

    def _answer(self, number: int, hidden: Tensor) -> ServerRows:
        """From the cache, or asked and put there."""
        files, settings = ShardFiles(self.cache, "answers"), self.plan.settings
        if not files.path(number).exists():
            ids = None
            if settings.exact_cmass:
                logits = (self._student_logits(hidden[rows]) for rows in self._chunks(hidden))
                ids = torch.cat([TopK.from_logprobs(z, max(settings.ks)).ids for z in logits]).cpu().numpy()
            answer = self.plan.teacher.rows(self.plan.shards[number], ids)
            tensors = {"sampled": answer.sampled, "ids": answer.top.ids, "logprobs": answer.top.logprobs}
            files.write(number, tensors if answer.on_student is None else tensors | {"on_student": answer.on_student})
        kept = files.read(number)
        beyond = kept["ids"] >= self.plan.columns  # padding of the teacher's vocabulary
        best = TopK(kept["ids"].masked_fill(beyond, NO_TOKEN), kept["logprobs"].masked_fill(beyond, -torch.inf))
        return ServerRows(kept["sampled"], best, kept.get("on_student"))

    def _student_logits(self, hidden: Tensor) -> Tensor:
        return self.student.head.logits(hidden, self.plan.columns)

    def _chunks(self, hidden: Tensor) -> Iterator[slice]:
        n, size = len(hidden), max(1, _LOGITS[hidden.device.type] // self.plan.columns)
        return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _refuse_nan(columns: Columns, shard: Sequence[Context], teacher: str) -> None:
    for role, name in (("student", "Hs"), ("teacher", teacher)):
        bad = columns[name].isnan().nonzero()[:, 0]
        if not len(bad):
            continue
        place = int(bad[0])
        for context in shard:
            if place < len(context.response):
                raise ValueError(
                    f"the {role} gives NaN at {len(bad):,} tokens, first at response token {place} of context "
                    f"{context.context_id}"
                )
            place -= len(context.response)


def _prefix_ema(columns: Columns, shard: Sequence[Context]) -> Tensor:
    """Of the best C that is known, over the tokens that count."""
    valid = torch.from_numpy(np.concatenate([context.loss_mask for context in shard])) != 0
    lengths = torch.tensor([len(context.response) for context in shard])
    exact = columns["Cmass_exact"]
    return prefix_ema(torch.where(exact.isnan(), columns["Cmass_topk"], exact), lengths, valid)


def _joined(parts: list[Rows]) -> Rows:
    columns, supports = zip(*parts, strict=True)
    return {name: torch.cat([part[name] for part in columns]) for name in columns[0]}, Supports.concat(supports)
