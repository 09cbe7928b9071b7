"""The summary line of a rollout's per-token table, added up while its blocks are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .columns import QUADRANTS, Columns

MEANS = ("H_norm", "D_norm", "C_norm", "tip_score", "ca_softor_score", "reach_t1")
SUMMARY_COLUMNS = (
    "rollout_id",
    "num_tokens",
    "num_valid_tokens",
    "num_kept_tokens",
    "keep_ratio",
    *(f"mean_{name}" for name in MEANS),
    "q3_tokens",
    "budget_method",
    "budget_ratio",
)


class Summary:
    """Counts and sums over the blocks that have passed through; names: the table's columns, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.tokens = self.valid = self.kept = self.q3 = 0
        self._method: str | None = None
        self._ratio: float | None = None
        self._sum = dict.fromkeys(MEANS, 0.0)
        self._known = dict.fromkeys(MEANS, 0)

    def watch(self, blocks: Iterable[Columns]) -> Iterator[Columns]:
        """The same blocks, each counted when it is taken."""
        for columns in blocks:
            self._add(columns)
            yield columns

    def _add(self, columns: Columns) -> None:
        self.names = list(columns)
        valid = columns["loss_mask_original"] != 0
        self.tokens += len(valid)
        self.valid += int(np.count_nonzero(valid))
        self.kept += int(np.count_nonzero(columns["budget_keep"]))
        self.q3 += int(np.count_nonzero(columns["quadrant"].codes == QUADRANTS.index("Q3_lowH_highD")))
        for name in MEANS:
            values = columns[name]
            known = valid & ~(np.ma.getmaskarray(values) if np.ma.isMA(values) else np.isnan(values))
            self._sum[name] += float(np.ma.getdata(values)[known].sum(dtype=np.float64))
            self._known[name] += int(np.count_nonzero(known))
        if len(valid):
            self._method = columns["budget_method"].names[0]
            self._ratio = float(columns["budget_ratio"][0])

    def row(self, rollout_id: int) -> dict[str, Any]:
        """One line of summary.csv; means over the valid tokens that have the number, empty where none has."""
        return {
            "rollout_id": rollout_id,
            "num_tokens": self.tokens,
            "num_valid_tokens": self.valid,
            "num_kept_tokens": self.kept,
            "keep_ratio": self.kept / self.valid if self.valid else "",
            **{f"mean_{name}": self._sum[name] / self._known[name] if self._known[name] else "" for name in MEANS},
            "q3_tokens": self.q3,
            "budget_method": "" if self._method is None else self._method,
            "budget_ratio": "" if self._ratio is None else self._ratio,
        }
