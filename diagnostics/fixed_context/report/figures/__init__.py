"""Every figure of the report: from tables and tokens to plots, and plots to files."""

from __future__ import annotations

from ...statistics.gain import GainTable
from ..tables import Tables
from .curves import bucket_plot, position_plot
from .forests import coefficient_plot, gap_plot
from .plane import plane_plot
from .selectors import budget_plot
from .style import PALETTE_NOTE, Plot, panel_png, save_plot
from .support import support_plot

__all__ = ["PALETTE_NOTE", "Plot", "all_plots", "panel_png", "save_plot"]


def all_plots(table: GainTable, tables: Tables) -> list[Plot]:
    """In the order of the report."""
    drawn = (gap_plot, coefficient_plot, budget_plot, bucket_plot, support_plot, position_plot)
    return [plane_plot(table), *(draw(tables) for draw in drawn)]
