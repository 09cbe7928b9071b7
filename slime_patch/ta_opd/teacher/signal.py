"""What one response knows of both models: compact arrays that travel with the sample, never a server's JSON.

Axes: R response tokens of one sample, K entries of a top-k list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..support import NO_TOKEN

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TopKRows:
    """ids: int32 [R, K], NO_TOKEN (-1) in an empty entry. logprobs: float32 [R, K], nats, -inf in an empty entry."""

    ids: Ints
    logprobs: Floats

    def __post_init__(self) -> None:
        assert self.ids.ndim == 2 and self.ids.shape == self.logprobs.shape, (self.ids.shape, self.logprobs.shape)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def k(self) -> int:
        return self.ids.shape[1]

    @staticmethod
    def missing(n: int, k: int) -> TopKRows:
        """n tokens of which nothing is known: tool tokens, failed requests."""
        return TopKRows(np.full((n, k), NO_TOKEN, np.int32), np.full((n, k), -np.inf, np.float32))

    def then(self, other: TopKRows) -> TopKRows:
        """These rows followed by the other's: segments of one response."""
        return TopKRows(np.concatenate([self.ids, other.ids]), np.concatenate([self.logprobs, other.logprobs]))


@dataclass(frozen=True)
class TeacherSignal:
    """A teacher's answer about one response.

    logprobs: float32 [R], log p_T of the sampled tokens, nats; NaN where the teacher did not say, -inf where it gave
    the token no probability. topk: its own top-k at each token (K = 0 where not asked). on_student: float32 [R, K_S],
    log p_T at the student's top-k ids, NaN where not asked or not said; None where exact C was not asked at all.
    failure: why there is no answer, empty where there is one; then every number is missing.
    """

    logprobs: Floats
    topk: TopKRows
    on_student: Floats | None = None
    failure: str = ""

    def __post_init__(self) -> None:
        assert self.logprobs.ndim == 1 and len(self.topk) == len(self.logprobs), "one row for each response token"
        assert self.on_student is None or len(self.on_student) == len(self.logprobs), "one row for each response token"

    def __len__(self) -> int:
        return len(self.logprobs)

    @staticmethod
    def absent(n: int, k: int, failure: str) -> TeacherSignal:
        """No answer about n tokens, and why."""
        return TeacherSignal(np.full(n, np.nan, np.float32), TopKRows.missing(n, k), failure=failure)
