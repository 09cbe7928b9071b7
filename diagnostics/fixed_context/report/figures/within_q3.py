"""Within Q3, where entropy and disagreement are nearly fixed: what support tells of the gain."""

from __future__ import annotations

from matplotlib.axes import Axes

from ...statistics.tables import Row
from ..tables import Tables, number
from .forests import FILLED, METHODS, forest_panel
from .marks import counted, draw_band, legend_above
from .style import INK, Panel, Recipe, note_panel

COEFFICIENTS = {"compatibility": "support C", "learnable": "learnable D C"}
GAPS = {f"gap_{method}": name for method, name in METHODS.items()}


def _panels(tables: Tables) -> list[Panel]:
    """Coefficients, gaps, and the gain of each quarter of Q3 by support."""
    return [
        _forest(tables, COEFFICIENTS, "Coefficient within Q3", "standard deviations of gain"),
        _forest(tables, GAPS, "Gain of high less low support", "nats of gain a token"),
        _quarters(tables),
    ]


def _forest(tables: Tables, names: dict[str, str], title: str, unit: str) -> Panel:
    rows = [row for row in tables.get("within_q3", []) if row["quantity"] in names]
    if not rows:
        return note_panel(title, tables.note("within_q3"))
    labels = [f"K = {row['k']}, {names[row['quantity']]}{_measure(row)}" for row in rows]
    size = f"n = {counted([row['tokens'] for row in rows])} of {counted([row['q3_tokens'] for row in rows])} Q3 tokens"
    return forest_panel(rows, labels, ("value", "low", "high"), title, unit, size)


def _measure(row: Row) -> str:
    return "" if row["gain"] == "absolute" else f"\n({row['gain']})"


def _quarters(tables: Tables) -> Panel:
    title = "Gain by quarter of support"
    rows = tables.rows("within_q3_quarters", gain="absolute")
    if not rows:
        why = [row["note"] for row in tables.get("within_q3", []) if row["note"] and "within_q3_quarters" in tables]
        return note_panel(title, why[0] if why else tables.note("within_q3_quarters"))
    ks, most = list(dict.fromkeys(row["k"] for row in rows)), max(row["quarter"] for row in rows)

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=INK, linewidth=0.9)
        for index, k in enumerate(ks):
            mine = [row for row in rows if row["k"] == k]
            shift = 0.1 * (index - (len(ks) - 1) / 2)
            x = [row["quarter"] + shift for row in mine]
            draw_band(axes, x, [number(row, "mean", "mean_low", "mean_high") for row in mine], index, f"K = {k}")
        first = {row["quarter"]: row["mean_C"] for row in reversed(rows)}
        axes.set_xticks(range(1, most + 1), [f"{first[quarter]:.2g}" for quarter in range(1, most + 1)])
        axes.set_xlabel("mean support C of the quarter" + (f" (K = {ks[0]})" if len(ks) > 1 else ""))
        axes.set_ylabel("nats of gain a token")
        axes.grid(axis="y")
        if len(ks) > 1:
            legend_above(axes)

    size = f"n = {counted([row['tokens'] for row in rows])} tokens a quarter"
    return Panel(f"{title}\n{size}", draw, "lines of gain over quarters of support")


WITHIN_Q3 = Recipe(
    "within_q3",
    "Within Q3",
    f"Only tokens of low entropy and high disagreement before training. {FILLED}; the table has p values after Holm. "
    "Bars: 95% over prompts.",
    ("within_q3", "within_q3_quarters"),
    _panels,
)
