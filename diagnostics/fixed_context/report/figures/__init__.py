"""Every figure of the report: from tables and tokens to plots, and plots to files."""

from __future__ import annotations

from ...statistics.gain import GainTable
from ..tables import Tables
from .budgets import BUDGETS
from .curves import BUCKETS, POSITIONS
from .drawing import Drawing, draw_plot, save_drawing
from .forests import COEFFICIENTS, GAPS
from .masks import MASKS
from .plane import plane_plot
from .reach import REACH
from .selectors import SELECTORS
from .style import PALETTE_NOTE, Plot, Recipe
from .support import SUPPORT
from .within_q3 import WITHIN_Q3

__all__ = ["PALETTE_NOTE", "RECIPES", "Drawing", "Plot", "Recipe", "all_plots", "draw_plot", "save_drawing"]

RECIPES = (GAPS, COEFFICIENTS, SELECTORS, BUDGETS, MASKS, BUCKETS, WITHIN_Q3, REACH, SUPPORT, POSITIONS)
"""In the order of the report, after the plane."""


def all_plots(table: GainTable, tables: Tables) -> tuple[list[Plot], list[Recipe]]:
    """What is drawn, in the order of the report; and what is not, since none of its tables was given."""
    given = [recipe.plot(tables) for recipe in RECIPES if recipe.given(tables)]
    return [plane_plot(table), *given], [recipe for recipe in RECIPES if not recipe.given(tables)]
