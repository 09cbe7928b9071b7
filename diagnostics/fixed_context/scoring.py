"""Scoring a context bank: the teacher's hidden states to the cache, the student's scores shard by shard, one file.

Everything is finished shard by shard in files that are whole or absent, so that a run killed at any time goes on where
it was and ends in the same file; memory is a shard's, however many contexts there are. N response tokens of a shard.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from ta_opd import Supports, TopK
from ta_opd.files import atomic_path
from ta_opd.scores import prefix_ema
from ta_opd.support import LOG_FLOOR, NO_TOKEN
from torch import Tensor

from .assembly import assemble
from .cache import ShardFiles, cache_key, has_head, locked_directory, read_head, write_head
from .contexts import Context
from .models import Head, ModelFiles, ScoringModel
from .plan import Plan
from .progress import phase
from .schema import score_schema, write_parquet
from .scoring_rows import Columns, dense_rows, list_rows, listed_rank, student_rows
from .server import ServerRows
from .shard_table import shard_table

_LOGITS = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Elements of one model's logits that exist at a time, per device type."""


def evaluate(plan: Plan, console: Console) -> None:
    """Write the metrics file. Raises ValueError, naming model, context and position, where logits are NaN."""
    settings, cache = plan.settings, plan.settings.cache_directory / plan.metadata["teacher_cache_key"]
    with locked_directory(cache, plan.teacher_identity, "the teacher cache (--teacher-cache)"):
        if isinstance(plan.teacher, ModelFiles):
            _keep_hidden_states(plan, cache, console)
    parts = settings.output.with_name(f".{settings.output.name}.{cache_key(plan.run_identity)}.parts")
    with locked_directory(parts, plan.run_identity, "the directory of unfinished scores"):
        _score_shards(plan, cache, parts, console)
        assemble(plan, [_part(parts, number) for number in range(len(plan.shards))])
        shutil.rmtree(parts)


def _keep_hidden_states(plan: Plan, cache: Path, console: Console) -> None:
    files = ShardFiles(cache, "hidden")
    missing = files.missing(len(plan.shards))
    if not missing and has_head(cache):
        console.print(f"teacher: {plan.tokens:,} tokens from {cache}", highlight=False, soft_wrap=True)
        return
    settings = plan.settings
    model = ScoringModel(plan.teacher, settings.teacher_device, settings.trust_remote_code)
    write_head(cache, model.head)
    with phase(console, "teacher", plan.tokens, plan.tokens - sum(map(plan.shard_tokens, missing))) as bar:
        for number in missing:
            hidden = model.hidden_rows(plan.shards[number], settings.batch(settings.teacher_device))
            files.write(number, {"hidden": hidden})
            bar.advance(len(hidden))
    del model
    _free()


def _score_shards(plan: Plan, cache: Path, parts: Path, console: Console) -> None:
    missing = [number for number in range(len(plan.shards)) if not _part(parts, number).exists()]
    if not missing:
        return
    settings = plan.settings
    student = ScoringModel(plan.student, settings.student_device, settings.trust_remote_code)
    device = student.head.weight.device
    dense = isinstance(plan.teacher, ModelFiles)
    head = read_head(cache, device) if dense else None
    schema = score_schema(settings.topk, settings.extra_topk)
    with phase(console, "student", plan.tokens, plan.tokens - sum(map(plan.shard_tokens, missing))) as bar:
        for number in missing:
            shard = plan.shards[number]
            hidden = student.hidden_rows(shard, settings.batch(settings.student_device))
            tokens = torch.from_numpy(np.concatenate([context.response for context in shard])).long()
            if dense:
                other = ShardFiles(cache, "hidden").read(number, device)["hidden"]
                columns, supports = _dense_rows(plan, student.head, hidden, head, other, tokens)
            else:
                answer = _server_rows(plan, cache, number, student.head, hidden)
                columns, supports = _listed_rows(plan, student.head, hidden, answer, tokens)
            columns |= list_rows(supports, tokens, settings.ks)
            _refuse_nan(columns, shard, dense)
            columns["Cprefix_ema"] = _prefix_ema(columns, shard)
            with atomic_path(_part(parts, number)) as temporary:
                write_parquet(temporary, shard_table(shard, columns, schema), {})
            bar.advance(len(tokens))
    del student, head
    _free()


Rows = tuple[Columns, Supports]


def _dense_rows(plan: Plan, student: Head, hidden: Tensor, teacher: Head, other: Tensor, tokens: Tensor) -> Rows:
    """Of a teacher whose hidden states are there."""
    parts = []
    for rows in _chunks(len(tokens), plan.columns, hidden.device):
        logits = student.logits(hidden[rows], plan.columns), teacher.logits(other[rows], plan.columns)
        parts.append(dense_rows(*logits, tokens[rows].to(hidden.device), max(plan.settings.ks)))
    return _joined(parts)


def _listed_rows(plan: Plan, student: Head, hidden: Tensor, answer: ServerRows, tokens: Tensor) -> Rows:
    """Of a teacher behind a server: what the student's whole distributions and the teacher's lists tell."""
    parts = []
    for rows in _chunks(len(tokens), plan.columns, hidden.device):
        logits, own = student.logits(hidden[rows], plan.columns), tokens[rows].to(hidden.device)
        listed = TopK(answer.top.ids[rows], answer.top.logprobs[rows])
        on_student = None if answer.on_student is None else answer.on_student[rows]
        columns, supports = student_rows(logits, own, listed, on_student, max(plan.settings.ks))
        columns["teacher_logp_sampled"] = answer.sampled[rows].clamp(min=LOG_FLOOR)
        columns["target_teacher_rank"] = listed_rank(listed, tokens[rows])
        parts.append((columns, supports))
    return _joined(parts)


def _server_rows(plan: Plan, cache: Path, number: int, student: Head, hidden: Tensor) -> ServerRows:
    """From the cache, or asked and put there."""
    files = ShardFiles(cache, "answers")
    if not files.path(number).exists():
        ids = None
        if plan.settings.exact_cmass:
            chunks = _chunks(len(hidden), plan.columns, hidden.device)
            logits = (student.logits(hidden[rows], plan.columns) for rows in chunks)
            ids = torch.cat([TopK.from_logprobs(z, max(plan.settings.ks)).ids for z in logits]).cpu().numpy()
        answer = plan.teacher.rows(plan.shards[number], ids)
        tensors = {"sampled": answer.sampled, "ids": answer.top.ids, "logprobs": answer.top.logprobs}
        files.write(number, tensors if answer.on_student is None else tensors | {"on_student": answer.on_student})
    kept = files.read(number)
    beyond = kept["ids"] >= plan.columns  # padding of the teacher's vocabulary
    best = TopK(kept["ids"].masked_fill(beyond, NO_TOKEN), kept["logprobs"].masked_fill(beyond, -torch.inf))
    return ServerRows(kept["sampled"], best, kept.get("on_student"))


def _refuse_nan(columns: Columns, shard: list[Context], dense: bool) -> None:
    for role, name in (("student", "Hs"), ("teacher", "Ht" if dense else "teacher_logp_sampled")):
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


def _prefix_ema(columns: Columns, shard: list[Context]) -> Tensor:
    """Of the best C that is known, over the tokens that count."""
    valid = torch.from_numpy(np.concatenate([context.loss_mask for context in shard])) != 0
    lengths = torch.tensor([len(context.response) for context in shard])
    exact = columns["Cmass_exact"]
    return prefix_ema(torch.where(exact.isnan(), columns["Cmass_topk"], exact), lengths, valid)


def _chunks(n: int, columns: int, device: torch.device) -> Iterator[slice]:
    size = max(1, _LOGITS[device.type] // columns)
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _joined(parts: list[Rows]) -> Rows:
    columns, supports = zip(*parts, strict=True)
    return {name: torch.cat([part[name] for part in columns]) for name in columns[0]}, Supports.concat(supports)


def _part(parts: Path, number: int) -> Path:
    return parts / f"shard_{number:06d}.parquet"


def _free() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
