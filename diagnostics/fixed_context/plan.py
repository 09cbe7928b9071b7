"""Everything an evaluation can refuse, looked at before a model is loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from ta_opd.teacher.servers import ServerFacts

from .baseline import TOKEN, check_comparable, match_rows
from .cache import cache_key
from .contexts import Context, select_contexts, shards
from .files import make_place, read_json
from .identity import file_sha256, model_fingerprint, tokenizer_difference, tokenizer_fingerprint
from .models import ModelFiles, load_tokenizer
from .normalise import SCOPE
from .schema import (
    SCHEMA_VERSION,
    measured,
    metrics_file_schema,
    read_context_bank,
    read_metadata,
    read_metrics,
)
from .server import ServerTeacher
from .settings import EvalSettings


@dataclass(frozen=True)
class Plan:
    """shards: the contexts, those finished together. empty: ids of contexts without a response. columns: of the shared
    vocabulary. metadata: what the metrics file says of itself. baseline: the rows of the --baseline-metrics file that
    are these tokens, in order, and its table's schema; None without."""

    settings: EvalSettings
    shards: list[list[Context]]
    empty: list[str]
    student: ModelFiles
    teacher: ModelFiles | ServerTeacher
    columns: int
    metadata: dict[str, Any]
    baseline: tuple[pl.Series, pa.Schema] | None

    @property
    def tokens(self) -> int:
        return sum(self.shard_tokens(number) for number in range(len(self.shards)))

    def shard_tokens(self, number: int) -> int:
        return sum(len(context.response) for context in self.shards[number])

    @property
    def teacher_identity(self) -> dict[str, Any]:
        """All that the teacher's numbers depend on."""
        told = {name: self.metadata[name] for name in ("teacher_fingerprint", "contexts_sha256")}
        if isinstance(self.teacher, ModelFiles):
            return told | {"kind": "hidden states", "dtype": self.teacher.dtype}
        asked = self.metadata["student_fingerprint"] if self.settings.exact_cmass else None
        return told | {"kind": "server", "k": max(self.settings.ks), "student": asked}

    @property
    def run_identity(self) -> dict[str, Any]:
        """All that a shard's scores depend on."""
        names = ("student_fingerprint", "dtype", "topk", "extra_topk", "vocabulary")
        asked = {"batch_tokens": self.settings.batch(self.settings.student_device), "teacher": self.teacher_identity}
        return {name: self.metadata[name] for name in names} | asked


def make_plan(settings: EvalSettings) -> Plan:
    """Raises ValueError, in one line for the person, for every input that does not fit."""
    read = {"--context-bank": settings.context_bank, "--baseline-metrics": settings.baseline_metrics}
    make_place(settings.output, "--output", [(flag, path) for flag, path in read.items() if path is not None])
    bank = read_context_bank(settings.context_bank)
    contexts, empty = select_contexts(bank, settings.max_samples, settings.max_response_tokens)
    student = ModelFiles.of("student", settings.student, settings.dtype, settings.trust_remote_code)
    student.check_contexts(contexts)
    teacher, facts, fingerprint = _teacher(settings, contexts)
    columns = min(student.vocabulary, facts.vocabulary)
    for context in contexts:
        if context.highest_id >= columns:
            raise ValueError(
                f"context {context.context_id} holds token id {context.highest_id}; both models know {columns:,}"
            )
    if max(settings.ks) > columns:
        raise ValueError(f"--topk {max(settings.ks)} is more than the vocabulary of {columns:,} tokens")
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "topk": settings.topk,
        "extra_topk": list(settings.extra_topk),
        "student": settings.student,
        "student_fingerprint": student.fingerprint,
        "teacher": settings.teacher,
        "teacher_kind": "sglang" if settings.teacher_is_server else "transformers",
        "teacher_fingerprint": fingerprint,
        "tokenizers": _tokenizers(settings, student, facts),
        "bank_sha256": file_sha256(settings.context_bank),
        "contexts_sha256": _contexts_sha256(contexts),
        "contexts": len(contexts),
        "empty_contexts": len(empty),
        "dtype": {"student": student.dtype, "teacher": getattr(teacher, "dtype", "server")},
        "vocabulary": columns,
        "max_response_tokens": settings.max_response_tokens,
        "normalisation": SCOPE,
    }
    plan = Plan(settings, shards(contexts), empty, student, teacher, columns, metadata, None)
    metadata["teacher_cache_key"] = cache_key(plan.teacher_identity)
    return plan if settings.baseline_metrics is None else _with_baseline(plan, contexts)


def _teacher(settings: EvalSettings, contexts: list[Context]):
    """(the teacher, what is known of it as a server's facts, its fingerprint)."""
    if not settings.teacher_is_server:
        files = ModelFiles.of("teacher", settings.teacher, settings.dtype, settings.trust_remote_code)
        files.check_contexts(contexts)
        return files, ServerFacts("", files.vocabulary, tokenizer_path=str(files.path)), files.fingerprint
    server = ServerTeacher(settings.teacher, max(settings.ks), settings.exact_cmass)
    facts = server.facts()
    server.check_contexts(contexts, facts)
    here = Path(facts.model_path)
    content = model_fingerprint(here) if facts.model_path and here.is_dir() else facts.model_path
    return server, facts, f"sglang {facts.version} {content}"


def _tokenizers(settings: EvalSettings, student: ModelFiles, facts: ServerFacts) -> dict[str, str | None]:
    """Fingerprints of the bank's, the student's and the teacher's tokenizer, None where unknown. Raises ValueError
    where they differ or are unknown, unless --allow-tokenizer-mismatch."""
    allowed = settings.allow_tokenizer_mismatch
    advice = "; --allow-tokenizer-mismatch goes on regardless"
    manifest = settings.context_bank.with_name(f"{settings.context_bank.name}.manifest.json")
    told = read_json(manifest).get("tokenizer_fingerprint") if manifest.exists() else None
    loaded = {}
    teacher = settings.teacher_tokenizer or facts.tokenizer_path
    for flag, path in (("--student", str(student.path)), ("--teacher", teacher)):
        try:
            if not path:
                raise ValueError(f"{flag}: the server does not name its tokenizer; give --teacher-tokenizer")
            loaded[flag] = load_tokenizer(flag, path, settings.trust_remote_code)
        except ValueError as error:
            if not allowed:
                raise ValueError(f"{error}{advice}") from error
    fingerprints = {flag: tokenizer_fingerprint(tokenizer) for flag, tokenizer in loaded.items()}
    own, other = fingerprints.get("--student"), fingerprints.get("--teacher")
    if own != other and not allowed:
        difference = tokenizer_difference(loaded["--student"], loaded["--teacher"])
        raise ValueError(f"student and teacher have different tokenizers: {difference}{advice}")
    if None not in (told, own) and told != own and not allowed:
        raise ValueError(f"{settings.context_bank} was made with tokenizer {told}, the student has {own}{advice}")
    return {"bank": told, "student": own, "teacher": other}


def _with_baseline(plan: Plan, contexts: list[Context]) -> Plan:
    path = plan.settings.baseline_metrics
    schema = metrics_file_schema(path)
    before = read_metrics(path, columns=[*TOKEN, *measured(schema)])  # all that is joined at the end can be read
    check_comparable(plan.metadata, read_metadata(path), path)
    try:
        rows = match_rows(_tokens(contexts), before.select(TOKEN))
    except ValueError as error:
        raise ValueError(f"--baseline-metrics {path}: {error}") from error
    told = {"file_sha256": file_sha256(path), "student_fingerprint": read_metadata(path).get("student_fingerprint")}
    metadata = plan.metadata | {"baseline": told}
    return replace(plan, metadata=metadata, baseline=(rows, schema))


def _tokens(contexts: list[Context]) -> pl.DataFrame:
    """TOKEN of every token that will be scored, in order."""
    lengths = [len(c.response) for c in contexts]
    return pl.DataFrame(
        {
            "context_id": np.repeat([c.context_id for c in contexts], lengths),
            "tok_pos": np.concatenate([np.arange(length) for length in lengths]),
            "token_id": np.concatenate([c.response for c in contexts]),
            "loss_mask": np.concatenate([c.loss_mask for c in contexts]),
        }
    )


def _contexts_sha256(contexts: list[Context]) -> str:
    digest = hashlib.sha256()
    for context in contexts:
        digest.update(f"{context.context_id},{len(context.response)};".encode())
        digest.update(context.loss_mask.tobytes())
    return digest.hexdigest()
