"""The findings under every definition of support at every K."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ...statistics.tables import Row
from ..tables import Tables, number
from .marks import counted, noted
from .style import DIVERGING, UNSURE, Panel, Recipe, note_panel

QUANTITIES = {
    "compatibility": "Coefficient of support, standardised",
    "gap_raw": "Learnable less incompatible, nats a unit of D",
    "q3_matched": "Q3 gap, matched, nats",
}


def _panels(tables: Tables) -> list[Panel]:
    """A heat map a quantity: definitions down, K across."""
    rows = tables.get("support_definitions", [])
    if not rows:
        return [note_panel("Definitions of support", tables.note("support_definitions"))]
    return [_panel(name, [row for row in rows if row["quantity"] == key]) for key, name in QUANTITIES.items()]


def _panel(name: str, rows: list[Row]) -> Panel:
    definitions, ks = list(dict.fromkeys(row["definition"] for row in rows)), sorted({row["k"] for row in rows})
    cells = {(row["definition"], row["k"]): row for row in rows}
    grid = np.full((len(definitions), len(ks)), np.nan)
    for (definition, k), row in cells.items():
        grid[definitions.index(definition), ks.index(k)] = number(row, "value")[0]
    edge = float(np.nanmax(np.abs(grid))) if np.isfinite(grid).any() else 1.0

    def draw(axes: Axes) -> None:
        axes.imshow(np.ma.masked_invalid(grid), cmap=DIVERGING, vmin=-(edge or 1), vmax=edge or 1, aspect="auto")
        for y, definition in enumerate(definitions):
            for x, k in enumerate(ks):
                _cell(axes, x, y, cells.get((definition, k)), edge or 1)
        axes.set_xticks(range(len(ks)), [f"K = {k}" for k in ks])
        axes.set_yticks(range(len(definitions)), definitions)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    sizes = (
        f"n = {counted([row['tokens'] for row in rows])} tokens of {counted([row['prompts'] for row in rows])} prompts"
    )
    return Panel(f"{name}\n{sizes}", draw, f"heat map of {name}", height=1.0 + 0.36 * len(definitions))


def _cell(axes: Axes, x: int, y: int, row: Row | None, edge: float) -> None:
    if row is None or row["value"] is None:
        note = "not in the file" if row is None else row["note"] or "no number"
        text = noted(note, 18, 3)
        axes.text(x, y, text, ha="center", va="center", fontsize=6, color=UNSURE)
        return
    value, low, high = number(row, "value", "low", "high")
    star = "" if np.isnan(low) or low <= 0 <= high else " *"
    color = "white" if abs(value) > 0.7 * edge else "black"
    axes.text(x, y, f"{value:+.3g}{star}", ha="center", va="center", fontsize=8, color=color)


SUPPORT = Recipe(
    "support_definitions",
    "Does it hang on how support is defined?",
    "Star: the 95% interval leaves out 0 (not corrected for many tests; the table has Holm's). Words: why there is no "
    "number.",
    ("support_definitions",),
    _panels,
)
