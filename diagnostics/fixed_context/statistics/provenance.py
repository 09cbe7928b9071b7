"""Which models a gain file compares, by the fingerprints of its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Models:
    """Fingerprints of the student after training, of the one before, and of the teacher, and the K of the scores; None
    where the file does not tell."""

    student: str | None = None
    before: str | None = None
    teacher: str | None = None
    topk: int | None = None


def models_of(metadata: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> Models:
    """From a metrics file's metadata; before: those of the file from before training, where that is another one."""
    baseline = metadata.get("baseline", {}) if before is None else before
    return Models(
        metadata.get("student_fingerprint"),
        baseline.get("student_fingerprint"),
        metadata.get("teacher_fingerprint"),
        metadata.get("topk"),
    )
