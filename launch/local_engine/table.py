"""The comparison as the terminal and summary.md show it."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from .experiment import Baseline
from .results import Records

_COVERED = {
    False: "Intervals cover the choice of prompts only. One seed is one draw: even random against random can differ by "
    "more than they say, so compare selectors over several seeds.",
    True: "Intervals cover the choice of prompts and of seeds, not of the pre-trained pair.",
}


def print_table(console: Console, summary: Records, baseline: Baseline) -> None:
    """Means with the interval below, so that the table fits 120 columns; a narrower terminal folds the names."""
    table = Table(
        title=title(baseline),
        title_justify="left",
        caption=caption(baseline, _several(summary)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    names, rows = _cells(summary)
    table.add_column(names[0], overflow="fold")
    for name in names[1:]:
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace(" [", "\n[").replace(" / ", "\nof ") for cell in row))
    console.print(table)


def markdown_table(summary: Records, baseline: Baseline) -> str:
    names, rows = _cells(summary)
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *rows]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{title(baseline)}\n\n{body}\n\n{caption(baseline, _several(summary))}\n"


def title(baseline: Baseline) -> str:
    prompts, tokens = len(np.unique(baseline.frozen.prompt)), len(baseline.frozen.prompt)
    return f"Gain in nats a token on {tokens:,} frozen tokens of {prompts} held-out prompts, with 95% intervals"


def caption(baseline: Baseline, several: bool) -> str:
    return (
        "gain: KL(teacher||student) before - after; reverse gain: the same of KL(student||teacher), which OPD "
        f"descends; loss: nats a token on real held-out solutions, {baseline.student_loss:.3f} before, teacher "
        f"{baseline.teacher_loss:.3f}; s: CPU seconds. {_COVERED[several]}"
    )


def _cells(summary: Records) -> tuple[list[str], list[list[str]]]:
    several = _several(summary)
    by_seed = ["gain by seed"] if several else []
    names = ["method", "kept / valid", "gain", *by_seed, "reverse gain", "gain - random", "loss", "s"]
    rows = []
    for record in summary:
        seeds = [" ".join(f"{gain:+.3f}" for gain in record["gain_by_seed"])] if several else []
        rows.append(
            [
                record["label"],
                f"{record['kept_tokens']:,} / {record['valid_tokens']:,}",
                _interval(record, "gain"),
                *seeds,
                _interval(record, "reverse_gain"),
                _interval(record, "vs_random"),
                f"{record['heldout_loss']:.3f}",
                f"{record['seconds']:.0f}",
            ]
        )
    return names, rows


def _interval(record: dict[str, Any], name: str) -> str:
    mean, low, high = (record[f"{name}_{part}"] for part in ("mean", "low", "high"))
    if mean is None:
        return ""
    return f"{mean:+.3f}" if low is None else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _several(summary: Records) -> bool:
    return any(len(record["seeds"]) > 1 for record in summary)
