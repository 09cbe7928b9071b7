"""Exact C asks the teacher for its log-probs at the student's own top-k ids.

A server takes one list of ids for a whole request, so the ids of all positions are asked for at every position: their
union, of at most --opd-exact-cmass-max-union ids.

Axes: R response tokens of one sample, K_S entries of the student's list, U ids asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..support import NO_TOKEN


@dataclass(frozen=True)
class AskedIds:
    """ids: int32 [U], ascending, what to ask for; empty where nothing is. overflowed: there were more than may be
    asked for."""

    ids: NDArray[np.int32]
    overflowed: bool


def union_of(student_ids: NDArray[np.int32], vocabulary: int, most: int, overflow: str) -> AskedIds:
    """The ids to ask for: those of student_ids int32 [R, K_S] that the teacher has, each once.

    Where there are more than `most`: none of them (overflow "fallback" or "error"), or the `most` most frequent
    ("truncate"; of equally frequent ones the smaller ids).
    """
    held = student_ids[(student_ids >= 0) & (student_ids < vocabulary)]
    ids, counts = np.unique(held, return_counts=True)
    if len(ids) <= most:
        return AskedIds(ids.astype(np.int32), overflowed=False)
    kept = np.sort(np.lexsort((ids, -counts))[:most]) if overflow == "truncate" else slice(0)
    return AskedIds(ids[kept].astype(np.int32), overflowed=True)


def look_up(ids: NDArray[np.int32], logprobs: NDArray[np.float32], wanted: NDArray[np.int32]) -> NDArray[np.float32]:
    """float32 [R, K_S]: in each row, logprobs [R, U] at the entry of ids [R, U] that equals wanted [R, K_S].

    The ids of a row may come in any order. NaN where a wanted id is NO_TOKEN or is not among them.
    """
    found = np.full(wanted.shape, np.nan, np.float32)
    if not ids.size or not wanted.size:
        return found
    order = np.argsort(ids, axis=1, kind="stable")
    span = int(max(ids.max(), wanted.max())) + 2
    row_start = np.arange(len(ids), dtype=np.int64)[:, None] * span
    ascending = (np.take_along_axis(ids, order, 1) + row_start).ravel()
    place = np.searchsorted(ascending, wanted + row_start).clip(max=ascending.size - 1)
    hit = (wanted != NO_TOKEN) & (ascending[place] == wanted + row_start)
    found[hit] = np.take_along_axis(logprobs, order, 1).ravel()[place[hit]]
    return found


def known_on_student(
    student_ids: NDArray[np.int32], vocabulary: int, answered: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """float32 [R, K_S], nats: what is known of the teacher at student_ids [R, K_S]; NaN where nothing is.

    answered: the teacher's own numbers [R, K_S], or None where it was not asked. An id beyond the teacher's vocabulary
    (padding of the student's) is -inf, not NaN: the teacher cannot emit it, so its probability is known, and is zero.
    """
    known = np.full(student_ids.shape, np.nan, np.float32) if answered is None else answered.copy()
    known[student_ids >= vocabulary] = -np.inf
    return known
