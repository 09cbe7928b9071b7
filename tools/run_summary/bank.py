"""Numbers from a run's token bank: counts from summary.csv, means from the rollout files, streamed.

Reverse KL is the sampled one, log p_S - log p_T of the sampled token, nats; a mean is over the tokens that have the
number.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from token_bank_merge.broken import Broken
from token_bank_merge.inputs import Rollout, find_rollouts
from token_bank_merge.reading import read_batches, read_schema

KEPT_MEANS = ("Hs", "KLf_union", "Cmass")
"""H and D in nats, C a probability: the raw axes, comparable over runs as the normalised ones are not."""
_COLUMNS = ("loss_mask_original", "budget_keep", "sampled_reverse_kl", *KEPT_MEANS)
PART = 10
"""The first and the last rollouts are a tenth of all, at least one."""


@dataclass(frozen=True)
class Counts:
    """Over the rollouts that summary.csv lists. rows: number of tokens by rollout."""

    rows: dict[int, int]
    valid: int
    kept: int


@dataclass
class Mean:
    """A mean over several rollouts, from sums and counts."""

    total: float = 0.0
    count: int = 0

    def add(self, values: np.ndarray) -> None:
        """values: [M], float, NaN where not known."""
        known = values[~np.isnan(values)]
        self.total += float(known.sum(dtype=np.float64))
        self.count += len(known)

    @staticmethod
    def over(parts: Sequence[Mean]) -> float | None:
        count = sum(part.count for part in parts)
        return sum(part.total for part in parts) / count if count else None


@dataclass
class BankMeans:
    """None where there is no such number; problems say why."""

    reverse_kl_first: float | None = None
    reverse_kl_last: float | None = None
    kept: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(KEPT_MEANS))
    problems: list[Broken] = field(default_factory=list)


def read_counts(bank: Path) -> Counts:
    """Raises Broken for a summary.csv that is not there or cut off."""
    path = bank / "summary.csv"
    try:
        text = path.read_text(encoding="utf-8")
        lines = list(csv.DictReader(text.splitlines(), strict=True))
        if not text.endswith("\n") or any(None in line.values() for line in lines):
            raise ValueError("the last line has no end")
        numbers = [
            tuple(int(line[name]) for name in ("rollout_id", "num_tokens", "num_valid_tokens", "num_kept_tokens"))
            for line in lines
        ]
    except FileNotFoundError as error:
        raise Broken(path, "not there") from error
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise Broken(path, f"not a token bank's summary, or cut off: {error!r}") from error
    return Counts(
        {rollout_id: tokens for rollout_id, tokens, _, _ in numbers},
        sum(valid for _, _, valid, _ in numbers),
        sum(kept for _, _, _, kept in numbers),
    )


def read_means(bank: Path, counts: Counts) -> BankMeans:
    """Means over the rollouts of `counts`; a broken file leaves only the means empty that it is a part of."""
    means = BankMeans()
    files = {rollout.rollout_id: rollout for rollout in find_rollouts([str(bank)]).rollouts}
    read: dict[int, dict[str, Mean] | None] = {}
    for rollout_id, rows in sorted(counts.rows.items()):
        try:
            if rollout_id not in files:
                raise Broken(bank / f"rollout_{rollout_id:06d}", "listed in summary.csv and not there")
            read[rollout_id] = _sums(files[rollout_id], rows)
        except Broken as error:
            means.problems.append(error)
            read[rollout_id] = None
    whole = list(read.values())
    part = max(1, len(whole) // PART)
    means.reverse_kl_first = _mean(whole[:part], "sampled_reverse_kl")
    means.reverse_kl_last = _mean(whole[-part:], "sampled_reverse_kl")
    means.kept = {name: _mean(whole, name) for name in KEPT_MEANS}
    return means


def _mean(parts: Sequence[Mapping[str, Mean] | None], name: str) -> float | None:
    known = [part[name] for part in parts if part is not None]
    return Mean.over(known) if len(known) == len(parts) else None


def _sums(rollout: Rollout, rows: int) -> dict[str, Mean]:
    """reverse KL over the valid tokens, the raw axes over the kept ones. Raises Broken."""
    sums = {name: Mean() for name in ("sampled_reverse_kl", *KEPT_MEANS)}
    schema = read_schema(rollout, rows)
    if schema is None:
        return sums
    missing = [name for name in _COLUMNS if name not in schema.names]
    if missing:
        raise Broken(rollout.path, f"has no column {', '.join(missing)}")
    for batch in read_batches(rollout, pa.schema([schema.field(name) for name in _COLUMNS])):
        columns = {name: batch[name].to_numpy(zero_copy_only=False) for name in _COLUMNS}
        sums["sampled_reverse_kl"].add(columns["sampled_reverse_kl"][columns["loss_mask_original"] != 0])
        for name in KEPT_MEANS:
            sums[name].add(columns[name][columns["budget_keep"] != 0])
    return sums
