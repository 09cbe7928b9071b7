"""Whether the teacher's first choice is in the student's top K, before and after training, by quadrant."""

from __future__ import annotations

import math

from matplotlib.axes import Axes

from ...statistics.tables import Row
from ..tables import Tables, number
from .forests import FILLED, forest_panel
from .marks import counted, noted
from .style import MARKERS, OKABE_ITO, UNSURE, Panel, Recipe, note_panel

GROUPS = {
    "all": "all tokens",
    "Q1_highH_highD": "Q1 high H, high D",
    "Q2_highH_lowD": "Q2 high H, low D",
    "Q3_lowH_highD": "Q3 low H, high D",
    "Q4_lowH_lowD": "Q4 low H, low D",
}
WHEN = {"reach_before": "before", "reach_after": "after"}


def _panels(tables: Tables) -> list[Panel]:
    """Reach before and after, its change, and what tokens in reach gained more than those out of it."""
    rows = tables.rows("q3_reachability")
    if not rows:
        return [note_panel("Reach by quadrant", tables.note("q3_reachability"))]
    change = [row for row in rows if row["quantity"] == "reach_change"]
    gain = [row for row in rows if row["quantity"] == "gain_difference"]
    reach = [row for row in rows if row["quantity"] in WHEN]
    names = ("value", "low", "high")
    panels = [_reach_panel(reach)]
    if change:
        title = "Change of reach, after less before"
        panels.append(forest_panel(change, _labels(change), names, title, "share of tokens"))
    title = "Gain of tokens in reach less out of reach"
    return [*panels, forest_panel(gain, _labels(gain), names, title, "nats of gain a token")]


def _labels(rows: list[Row]) -> list[str]:
    return [f"{GROUPS[row['group']]}\n({row['group_tokens']:,})" for row in rows]


def _reach_panel(rows: list[Row]) -> Panel:
    groups = [next(row for row in rows if row["group"] == name) for name in dict.fromkeys(row["group"] for row in rows)]

    def draw(axes: Axes) -> None:
        axes.grid(axis="x")
        for index, (quantity, label) in enumerate(WHEN.items()):
            named = False
            for place, group in enumerate(groups):
                row = next((r for r in rows if (r["group"], r["quantity"]) == (group["group"], quantity)), {})
                value, low, high = number(row, "value", "low", "high")
                at = place + 0.15 * (2 * index - 1)
                if math.isnan(value):
                    text = noted(row.get("note") or "the file has no reach_t1", 34)
                    axes.text(
                        0.02, at, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7,
                        color=UNSURE, in_layout=False,
                    )  # fmt: skip
                    continue
                axes.plot([low, high], [at, at], color=OKABE_ITO[1 - index], linewidth=2)
                mark = MARKERS[1 - index]
                axes.plot([value], [at], mark, color=OKABE_ITO[1 - index], markersize=5, label=None if named else label)
                named = True
        axes.set_yticks(range(len(groups)), _labels(groups))
        axes.set_ylim(len(groups) - 0.4, -1.2)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("share of tokens")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(ncols=2, loc="upper left")

    sizes = counted([row["tokens"] for row in rows])
    prompts = counted([row["prompts"] for row in rows])
    alt = "; ".join(f"{GROUPS[r['group']]} {WHEN[r['quantity']]} {number(r, 'value')[0]:.3g}" for r in rows)
    title = f"Teacher's first choice in the student's top {rows[0]['k']}\nn = {sizes} tokens of {prompts} prompts"
    return Panel(title, draw, alt, height=1.3 + 0.36 * len(groups))


REACH = Recipe(
    "q3_reachability",
    "Is the teacher's choice within reach?",
    "Reach: the teacher's first choice is one of the student's top K. In brackets: n. Bars: 95% over prompts. "
    f"{FILLED}.",
    ("q3_reachability",),
    _panels,
)
