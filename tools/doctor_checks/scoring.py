"""What arrays of log-probs say of a teacher. Pure functions; natural logarithms, nats.

Axes: N response tokens, of one sample or of several one after the other; K entries of a list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

SAME = 0.01
"""Nats within which the list and the sampled token's own log-prob are the same number."""
_SHIFTS = (-2, -1, 1, 2)


@dataclass(frozen=True)
class Difference:
    """Of log-probs from log-probs, nats: its mean, the mean and the greatest of its size, its standard error."""

    mean: float
    size: float
    greatest: float
    error: float


def difference(a: Floats, b: Floats) -> Difference:
    """a - b, both [N]; infinite where one is."""
    gap = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    gap = np.where(np.isnan(gap), np.inf, gap)
    if not np.isfinite(gap).all():
        return Difference(math.inf, math.inf, math.inf, math.inf)
    return Difference(gap.mean(), np.abs(gap).mean(), np.abs(gap).max(), gap.std() / math.sqrt(len(gap)))


def shift_of_numbers(samples: Sequence[tuple[Floats, Floats]]) -> int:
    """How far the second of each pair [N] is shifted against the first, 0 where no shift makes them agree.

    s means that what stands at position t + s belongs to token t.
    """
    sizes = {0: _shifted_size(samples, 0)} | {shift: _shifted_size(samples, shift) for shift in _SHIFTS}
    best = min(sizes, key=sizes.get)
    return best if sizes[best] < 0.3 * sizes[0] else 0


def _shifted_size(samples: Sequence[tuple[Floats, Floats]], shift: int) -> float:
    gaps = [np.abs(_from(a, -shift) - _from(b, shift)) for a, b in samples if len(a) > abs(shift)]
    return float(np.concatenate(gaps).mean()) if gaps else math.inf


def _from(values: Floats, shift: int) -> Floats:
    return values[max(0, shift) : len(values) + min(0, shift)]


def inverse_temperature(pairs: Sequence[tuple[dict[int, float], dict[int, float]]]) -> float | None:
    """1/T if the second list of each pair is the first one's distribution at temperature T; None without common ids.

    Differences between log-probs within a list are differences between logits: at temperature T they shrink by T.
    """
    products = squares = 0.0
    for ours, theirs in pairs:
        common = [id_ for id_ in ours if id_ in theirs and math.isfinite(ours[id_]) and math.isfinite(theirs[id_])]
        if len(common) > 1:
            x, y = (np.array([values[id_] for id_ in common]) for values in (ours, theirs))
            products += float((x - x.mean()) @ (y - y.mean()))
            squares += float((x - x.mean()) @ (x - x.mean()))
    return products / squares if squares else None


def share_of_uniform(logprobs: Floats, vocabulary: int) -> float:
    """The entropy that samples of a model suggest, -mean log p, as a share of log V. 1: uniform."""
    return -float(np.mean(logprobs)) / math.log(vocabulary)


@dataclass(frozen=True)
class Alignment:
    """A token's own log-prob against its entry in the list of its position. listed: share of tokens that are listed.
    wrong: listed tokens whose entry is another number, or unlisted ones likelier than the list's last. shift: of the
    lists, as in shift_of_numbers."""

    listed: float
    wrong: int
    shift: int


def alignment(
    tokens: NDArray[np.integer], logprobs: Floats, ids: NDArray[np.integer], values: Floats, full: bool
) -> Alignment:
    """tokens, logprobs: [N]; ids, values: the lists [N, K]. full: the lists hold the whole vocabulary."""
    hit = ids == tokens[:, None]
    listed = hit.any(1)
    entry = np.where(hit, values, -np.inf).max(1)
    # A missing log-prob compares as false: it is wrong, too.
    wrong = listed & ~(np.abs(entry - logprobs) <= SAME)
    last = np.where(ids >= 0, values, np.inf).min(1)
    wrong |= ~listed & (full | ~(logprobs <= last + SAME))
    agreeing = {shift: _agreement(tokens, logprobs, ids, values, shift) for shift in (0, *_SHIFTS)}
    best = max(agreeing, key=agreeing.get)
    shift = best if wrong.any() and agreeing[best] > max(0.5, 1.5 * agreeing[0]) else 0
    return Alignment(float(listed.mean()), int(wrong.sum()), shift)


def _agreement(tokens, logprobs, ids, values, shift: int) -> float:
    """Of tokens that the list at `shift` names, the share whose entry is their log-prob, times the share it names."""
    tokens, logprobs = _from(tokens, -shift), _from(logprobs, -shift)
    hit = _from(ids, shift) == tokens[:, None]
    entry = np.where(hit, _from(values, shift), -np.inf).max(1)
    return float((np.abs(entry - logprobs) <= SAME).mean()) if len(tokens) else 0.0
