"""What other selectors and ratios would have kept on a saved token bank: no model, a rollout in memory at a time.

The masks are those that training would have made (ta_opd.select_tokens), and where the bank says how it was selected,
its own mask is made again and compared bit by bit. Axes: M selectors (method at a ratio), P position bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from ta_opd import Options
from ta_opd.methods import find_selector

from ..statistics.tables import Row
from .bank_reader import BankRollout
from .selector_replay import needed_columns, replay, token_scores_of

POSITION_BINS = 20


@dataclass(frozen=True)
class Entry:
    """A selector at a ratio. label: as in the tables."""

    mask: str
    ratio: float

    @property
    def label(self) -> str:
        return f"{find_selector(self.mask).name}:{self.ratio:g}"


def parse_entries(text: str) -> list[Entry]:
    """ "teachability:0.10 entropy:0.05,random:0.1" -> entries; a full selector has ratio 1. Raises ValueError."""
    entries = []
    for word in text.replace(",", " ").split():
        name, _, ratio = word.partition(":")
        try:
            mask = find_selector(name).mask
        except ValueError as error:
            raise ValueError(f"--methods {word!r}: {str(error).partition(': ')[2]}") from error
        try:
            value = 1.0 if mask == "full" else float(ratio)
        except ValueError:
            raise ValueError(f"--methods {word!r} must be method:ratio, such as teachability:0.10") from None
        if not 0 < value <= 1:
            raise ValueError(f"--methods {word!r}: the ratio is outside 0..1 (0 excluded)")
        entries.append(Entry(mask, value))
    if not entries:
        raise ValueError("--methods names no method")
    if len(set(entries)) < len(entries):
        raise ValueError(f"--methods {text!r} names an entry twice")
    return entries


@dataclass
class Replay:
    """Counts over all rollouts.

    kept, samples, prompts: int64 [M], tokens kept, and responses and prompts that keep at least one. shared: int64
    [M, M], tokens that both keep. positions: int64 [M + 1, P], kept by position, the last row all valid tokens. rows: a
    row a (rollout, entry). checks: a row a rollout, whether its own mask was made again exactly.
    """

    entries: list[Entry]
    valid: int = 0
    tokens: int = 0
    rollouts: int = 0
    all_samples: int = 0
    all_prompts: int = 0
    kept: NDArray = field(default_factory=lambda: np.zeros(0, np.int64))
    samples: NDArray = field(default_factory=lambda: np.zeros(0, np.int64))
    prompts: NDArray = field(default_factory=lambda: np.zeros(0, np.int64))
    shared: NDArray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    positions: NDArray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    rows: list[Row] = field(default_factory=list)
    checks: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        m = len(self.entries)
        self.kept, self.samples, self.prompts = (np.zeros(m, np.int64) for _ in range(3))
        self.shared, self.positions = np.zeros((m, m), np.int64), np.zeros((m + 1, POSITION_BINS), np.int64)


def replay_bank(
    rollouts: Iterable[BankRollout],
    entries: Sequence[Entry],
    base: Options,
    options_of: Callable[[BankRollout], Options | None],
    progress: Callable[[BankRollout], None] = lambda rollout: None,
) -> Replay:
    """Replay every entry on every rollout.

    base: everything but mask and ratio, where options_of(rollout), the settings it was written with, is None. Raises
    ValueError where a selector needs a column that a rollout has no number of.
    """
    result = Replay(list(entries))
    for rollout in rollouts:
        written = options_of(rollout)
        settings = written or base
        _refuse_unknown(rollout, entries, settings)
        scores, valid = token_scores_of(rollout.tokens), rollout.tokens.loss_mask != 0
        masks = [
            replay(
                rollout.tokens, replace(settings, topk_metrics_k=1, budget_mask=e.mask, budget_ratio=e.ratio), scores
            )
            for e in entries
        ]
        _count(result, rollout, masks, valid)
        if rollout.keep is not None:
            result.checks.append(_check(rollout, written, base, scores))
        progress(rollout)
    return result


def _refuse_unknown(rollout: BankRollout, entries: Sequence[Entry], settings: Options) -> None:
    proxy = settings.compat_proxy
    for entry in entries:
        for column in needed_columns(entry.mask, proxy, rollout.tokens.names):
            values = rollout.tokens.columns.get(column)
            if len(rollout.tokens) and (values is None or not np.isfinite(values).any()):
                raise ValueError(
                    f"{rollout.source}: rollout {rollout.rollout_id}: no number in {column}, which {entry.label} reads"
                )


def _count(result: Replay, rollout: BankRollout, masks: list[NDArray], valid: NDArray) -> None:
    sample = np.repeat(np.arange(len(rollout.tokens.lengths)), rollout.tokens.lengths)
    groups, group = np.unique(rollout.group, return_inverse=True)
    bins = np.minimum((rollout.position * POSITION_BINS).astype(np.int64), POSITION_BINS - 1)
    result.rollouts += 1
    result.tokens += len(rollout.tokens)
    result.valid += int(np.count_nonzero(valid))
    result.all_samples += len(np.unique(sample[valid]))
    result.all_prompts += len(np.unique(group[valid]))
    result.positions[-1] += np.bincount(bins[valid], minlength=POSITION_BINS)
    for i, mask in enumerate(masks):
        samples, prompts = np.bincount(sample[mask], minlength=1), np.bincount(group[mask], minlength=len(groups))
        result.kept[i] += int(np.count_nonzero(mask))
        result.samples[i] += int(np.count_nonzero(samples))
        result.prompts[i] += int(np.count_nonzero(prompts))
        result.positions[i] += np.bincount(bins[mask], minlength=POSITION_BINS)
        result.rows.append(_rollout_row(rollout, result.entries[i], mask, valid, prompts, len(np.unique(group[valid]))))
        for j in range(i, len(masks)):
            both = int(np.count_nonzero(mask & masks[j]))
            result.shared[i, j] += both
            result.shared[j, i] = result.shared[i, j]


def _rollout_row(
    rollout: BankRollout, entry: Entry, mask: NDArray, valid: NDArray, by_prompt: NDArray, prompts: int
) -> Row:
    kept = int(np.count_nonzero(mask))
    squared = float((by_prompt.astype(np.float64) ** 2).sum())
    return {
        "run": rollout.run,
        "rollout_id": rollout.rollout_id,
        "entry": entry.label,
        "kept": kept,
        "valid": int(np.count_nonzero(valid)),
        "prompts_covered": int(np.count_nonzero(by_prompt)),
        "prompts": prompts,
        "prompts_effective": kept**2 / squared if squared else None,
        "mean_position": float(rollout.position[mask].mean()) if kept else None,
    }


def _check(rollout: BankRollout, written: Options | None, base: Options, scores) -> Row:
    """replayed: with the settings that the bank tells; where it tells none, with `base`, its method and its ratio."""
    settings = written or replace(base, topk_metrics_k=1, budget_mask=rollout.method, budget_ratio=rollout.ratio)
    row = {
        "run": rollout.run,
        "rollout_id": rollout.rollout_id,
        "method": find_selector(rollout.method).name,
        "ratio": rollout.ratio,
        "settings": "of the bank" if written else "of the flags",
    }
    again = replay(rollout.tokens, settings, scores)
    different = int(np.count_nonzero(again != rollout.keep))
    note = ""
    if different and find_selector(settings.budget_mask) != find_selector(rollout.method):
        note = f"config.json tells of another method, {settings.budget_mask}"
    elif different:
        note = "the bank's settings are not known: give the run's flags" if written is None else "not the same mask"
    kept = {"kept": int(rollout.keep.sum()), "replayed": int(again.sum()), "different": different}
    return row | kept | {"exact": different == 0, "note": note}


def selector_rows(result: Replay) -> list[Row]:
    """A row an entry: kept of valid tokens, share, responses and prompts that keep a token (rollouts counted apart)."""
    return [
        {
            "entry": entry.label,
            "kept": int(result.kept[i]),
            "valid": result.valid,
            "share": float(result.kept[i] / result.valid) if result.valid else None,
            "responses_covered": int(result.samples[i]),
            "responses": result.all_samples,
            "prompts_covered": int(result.prompts[i]),
            "prompts": result.all_prompts,
            "prompt_coverage": float(result.prompts[i] / result.all_prompts) if result.all_prompts else None,
            "mean_position": _mean_position(result.positions[i]),
        }
        for i, entry in enumerate(result.entries)
    ]


def _mean_position(counts: NDArray) -> float | None:
    middle = (np.arange(POSITION_BINS) + 0.5) / POSITION_BINS
    return float(counts @ middle / counts.sum()) if counts.sum() else None


def jaccard_rows(result: Replay) -> list[Row]:
    """The matrix, a row an entry: tokens that both keep over tokens that either keeps; None where neither keeps any."""
    either = result.kept[:, None] + result.kept[None] - result.shared
    return [
        {"entry": entry.label, "kept": int(result.kept[i])}
        | {
            other.label: float(result.shared[i, j] / either[i, j]) if either[i, j] else None
            for j, other in enumerate(result.entries)
        }
        for i, entry in enumerate(result.entries)
    ]


def position_rows(result: Replay) -> list[Row]:
    """A row a (entry, position bin): kept and valid tokens, and the share of the bin's tokens that is kept."""
    rows = []
    for i, entry in enumerate(result.entries):
        for bin_ in range(POSITION_BINS):
            kept, valid = int(result.positions[i, bin_]), int(result.positions[-1, bin_])
            rows.append(
                {
                    "entry": entry.label,
                    "position_low": bin_ / POSITION_BINS,
                    "position_high": (bin_ + 1) / POSITION_BINS,
                    "kept": kept,
                    "valid": valid,
                    "share": kept / valid if valid else None,
                }
            )
    return rows
