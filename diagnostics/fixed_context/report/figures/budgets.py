"""What runs gained that were trained at each budget."""

from __future__ import annotations

from matplotlib.axes import Axes

from ..tables import Tables, number
from .marks import counted, draw_band, legend_above, noted
from .style import INK, OKABE_ITO, UNSURE, Panel, Recipe, note_panel

_ENDS = ("least", "most")


def _panels(tables: Tables) -> list[Panel]:
    """A line a method over its budgets, with the least and the most of the seeds."""
    rows = tables.get("budget_accuracy", [])
    if not rows:
        return [note_panel("Runs by budget", tables.note("budget_accuracy"))]
    metric = next((s["columns"]["metric"] for s in tables.summaries.values() if "budgets" in s), "metric")
    budgets, methods = sorted({row["budget"] for row in rows}), list(dict.fromkeys(row["method"] for row in rows))
    notes = list(dict.fromkeys(row["note"] for row in rows if row["note"]))

    def draw(axes: Axes) -> None:
        for index, method in enumerate(methods):
            mine = [row for row in rows if row["method"] == method]
            shift = 0.07 * (index - (len(methods) - 1) / 2)
            x = [budgets.index(row["budget"]) + shift for row in mine]
            label = f"{method} ({counted([row['seeds'] for row in mine])})"
            draw_band(axes, x, [number(row, "mean", "low", "high") for row in mine], index, label)
            ends = [(at, row[name]) for at, row in zip(x, mine, strict=True) if row["seeds"] > 1 for name in _ENDS]
            color = OKABE_ITO[index % len(OKABE_ITO)]
            axes.plot([at for at, _ in ends], [value for _, value in ends], "_", color=color, markersize=5)
        least, most = axes.get_ylim()
        if least < 0 < most:
            axes.axhline(0, color=INK, linewidth=0.9)
        axes.set_xticks(range(len(budgets)), [f"{budget:g}" for budget in budgets])
        axes.set_xlabel("budget")
        axes.set_ylabel(metric)
        axes.grid(axis="y")
        if notes:
            axes.margins(y=0.2)
            text = noted("; ".join(notes), 60)
            axes.text(0.02, 0.03, text, transform=axes.transAxes, fontsize=7, color=UNSURE)
        legend_above(axes)

    size = f"n = {counted([row['seeds'] for row in rows])} seeds a point"
    return [Panel(f"Mean {metric} of the runs\n{size}", draw, f"lines of {metric} over the budget", height=3.6)]


BUDGETS = Recipe(
    "budget_accuracy",
    "Runs trained at each budget",
    "A run for each method, budget and seed, unlike the selectors above. Bars: 95% over seeds. Dashes: the least and "
    "the most. In brackets: n of seeds.",
    ("budget_accuracy",),
    _panels,
)
