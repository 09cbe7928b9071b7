"""What each selector's tokens gained, at exactly the same number of them."""

from __future__ import annotations

from matplotlib.axes import Axes

from ...statistics.tables import Row
from ..tables import Tables, number
from .forests import forest_panel
from .marks import draw_band, legend_above
from .style import INK, Panel, Recipe, note_panel

_NAMES = ("gain_per_kept", "gain_per_kept_low", "gain_per_kept_high")
_FIRST = ("teachability", "divergence", "entropy", "tip", "q3_highc", "random_expected")
"""Selectors of the panel with lines, where more would hide each other; the panels beside it have all."""


def _panels(tables: Tables) -> list[Panel]:
    """Lines over the exact budget, and a forest a budget with every selector."""
    rows = tables.get("topn", [])
    if not rows:
        return [note_panel("Gain of the kept tokens", tables.note("topn"))]
    shown = [name for name in dict.fromkeys(row["selector"] for row in rows) if name in _FIRST]
    budgets = sorted({(row["ratio"], row["n"]) for row in rows})
    panels = [_line_panel(rows, shown, budgets)]
    for ratio, n in budgets:
        mine = [row for row in rows if row["n"] == n and row["ratio"] == ratio]
        mine.sort(key=lambda row: -number(row, "gain_per_kept")[0] if row["gain_per_kept"] is not None else 1e9)
        labels = [_label(row, n) for row in mine]
        title, size = f"{ratio:.3g} of the tokens kept", f"n = {n:,} by each selector"
        panels.append(forest_panel(mine, labels, _NAMES, title, "nats a kept token", size))
    return panels


def _label(row: Row, n: int) -> str:
    return row["selector"] if row["kept"] == n else f"{row['selector']} ({row['kept']:,})"


def _line_panel(rows: list[Row], shown: list[str], budgets: list[tuple[float, int]]) -> Panel:
    place = {n: index for index, (_, n) in enumerate(budgets)}

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=INK, linewidth=0.9)
        for index, name in enumerate(shown):
            mine = sorted((row for row in rows if row["selector"] == name), key=lambda row: row["n"])
            shift = 0.07 * (index - (len(shown) - 1) / 2)
            draw_band(
                axes, [place[row["n"]] + shift for row in mine], [number(row, *_NAMES) for row in mine], index, name
            )
        axes.set_xticks(range(len(budgets)), [f"{ratio:g}\n{n:,}" for ratio, n in budgets])
        axes.set_ylabel("nats of gain a kept token")
        axes.grid(axis="y")
        axes.set_xlabel("ratio and n")
        legend_above(axes)

    prompts = max(row["prompts"] or 0 for row in rows)
    title = f"Gain of the kept tokens by exact budget\nn under each budget, {prompts:,} prompts"
    return Panel(title, draw, "lines of gain a kept token", height=3.6)


SELECTORS = Recipe(
    "gain_by_budget",
    "Selectors at the same budget",
    "n: tokens that each selector keeps, exactly; random_expected: the mean of all draws of that many. The selection "
    "is held through the bootstrap.",
    ("topn",),
    _panels,
)
