"""What is asked of the rows of a block of logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from ..row_plan import RowPlan
from ..vocab_parallel import VocabShard


@dataclass(frozen=True)
class Request:
    """columns: valid local columns. rows: int64 [n], ascending, the rows to read; None for all N. token_ids: global,
    integer [n], of these rows; None leaves sampled log-probs out. with_gradient: the logits want one."""

    plan: RowPlan
    shard: VocabShard
    columns: int
    rows: Tensor | None
    token_ids: Tensor | None
    with_gradient: bool

    @cached_property
    def token_columns(self) -> Tensor | None:
        """int64 [n], this rank's column of the sampled token, -1 where another rank has it."""
        return None if self.token_ids is None else self.shard.local(self.token_ids, self.columns)

    @property
    def first_read(self) -> dict[str, Any]:
        """Keyword arguments of `statistics` at the plan's temperature."""
        return {"columns": self.columns, "temperature": self.plan.temperature, "taid_t": self.plan.taid_t}

    @property
    def later_reads(self) -> dict[str, Any]:
        """Keyword arguments of `entry_sums` and `gradient` at the plan's temperature."""
        return {**self.first_read, "taid_space": self.plan.taid_space}

    @property
    def unit_read(self) -> dict[str, Any]:
        """Keyword arguments of `statistics` at temperature 1."""
        return {"columns": self.columns, "temperature": 1.0, "taid_t": 1.0}

    @property
    def prob_space(self) -> bool:
        """Whether the target is a sum of probabilities, about which only entries tell."""
        return self.plan.taid_space == "prob" and self.plan.taid_t < 1

    def subset(self, chosen: Tensor | None) -> Request:
        """The same of some of these rows, int64 [m], ascending; None: of all."""
        if chosen is None:
            return self
        tokens = None if self.token_ids is None else self.token_ids[chosen]
        return replace(self, rows=chosen if self.rows is None else self.rows[chosen], token_ids=tokens)
