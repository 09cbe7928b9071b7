"""Scoring a context bank: the teacher's hidden states to the cache, the student's scores shard by shard, one file.

Everything is finished shard by shard in files that are whole or absent, so that a run killed at any time goes on where
it was and ends in the same file; memory is that of the shards under way, however many contexts there are.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from pyarrow import feather
from rich.console import Console
from ta_opd.files import atomic_path

from .assembly import assemble
from .cache import ShardFiles, cache_key, has_head, locked_directory, read_head, write_head
from .models import ModelFiles, ScoringModel
from .plan import Plan
from .progress import phase
from .schema import score_schema
from .shard_rows import ShardScorer
from .shard_table import shard_table
from .side_by_side import side_by_side, workers_of


def evaluate(plan: Plan, console: Console) -> None:
    """Write the metrics file. Raises ValueError, naming model, context and position, where logits are NaN."""
    settings, cache = plan.settings, plan.settings.cache_directory / plan.metadata["teacher_cache_key"]
    with locked_directory(cache, plan.teacher_identity, "the teacher cache (--teacher-cache)"):
        if isinstance(plan.teacher, ModelFiles):
            _keep_hidden_states(plan, cache, console)
            _give_memory_back()
    parts = settings.output.with_name(f".{settings.output.name}.{cache_key(plan.run_identity)}.parts")
    with locked_directory(parts, plan.run_identity, "the directory of unfinished scores"):
        _score_shards(plan, cache, parts, console)
        _give_memory_back()
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

    def keep(number: int) -> int:
        hidden = model.hidden_rows(plan.shards[number], settings.batch(settings.teacher_device))
        files.write(number, {"hidden": hidden})
        return len(hidden)

    workers = workers_of(settings.teacher_device, model.parameters)
    with phase(console, "teacher", plan.tokens, plan.tokens - sum(map(plan.shard_tokens, missing))) as bar:
        for tokens in side_by_side(keep, missing, workers):
            bar.advance(tokens)


def _score_shards(plan: Plan, cache: Path, parts: Path, console: Console) -> None:
    missing = [number for number in range(len(plan.shards)) if not _part(parts, number).exists()]
    if not missing:
        return
    settings, dense = plan.settings, isinstance(plan.teacher, ModelFiles)
    student = ScoringModel(plan.student, settings.student_device, settings.trust_remote_code)
    head = read_head(cache, student.head.weight.device) if dense else None
    scorer, schema = ShardScorer(plan, cache, student, head), score_schema(settings.topk, settings.extra_topk)

    def score(number: int) -> int:
        table = shard_table(plan.shards[number], scorer.columns(number), schema)
        with atomic_path(_part(parts, number)) as temporary:
            feather.write_feather(table, temporary, compression="uncompressed")
        return len(table)

    workers = workers_of(settings.student_device, student.parameters) if dense else 1
    with phase(console, "student", plan.tokens, plan.tokens - sum(map(plan.shard_tokens, missing))) as bar:
        for tokens in side_by_side(score, missing, workers):
            bar.advance(tokens)


def _part(parts: Path, number: int) -> Path:
    return parts / f"shard_{number:06d}.feather"


def _give_memory_back() -> None:
    """Of a model that is gone, to a device that the next one shares."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
