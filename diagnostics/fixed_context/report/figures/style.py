"""How every figure looks, and its parts: panels, which the page shows one by one and the files side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from ..tables import MAKERS, Tables

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#767d86")
"""Palette of lines and marks: Okabe and Ito (2008), told apart by people with any colour vision; with MARKERS too."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DIVERGING = LinearSegmentedColormap.from_list("orange_blue", ["#8c3f00", "#eea553", "#f6f6f4", "#86b8dc", "#124f8c"])
"""Orange below 0, blue above; light in the middle, so that it also reads without hue."""
SEQUENTIAL = LinearSegmentedColormap.from_list("density", ["#e6e9ed", "#4a525d"])
INK, GRID, UNSURE = "#30343a", "#e4e6e9", "#767d86"
PALETTE_NOTE = "Colours: Okabe-Ito for lines and marks, orange-blue for what can be above or below 0"
STYLE = {
    "font.size": 9,
    "axes.titley": 1.0,  # no axes has a title of its own: nothing is measured for it
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a9098",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,  # some matplotlibs cut a PDF's fonts in pieces by it, and embed each piece slowly
    "text.parse_math": False,
    "text.hinting": "no_hinting",  # not seen at this size, and a quarter of the time of drawing
}


@dataclass(frozen=True)
class Panel:
    """title: two lines at most, with n. draw: fills the axes. width, height: inches. alt: what one sees, in words."""

    title: str
    draw: Callable[[Axes], None]
    alt: str = ""
    width: float = 4.0
    height: float = 3.0


@dataclass(frozen=True)
class Plot:
    """A figure. stem: file name without its ending; caption: what the marks mean."""

    stem: str
    title: str
    caption: str
    panels: list[Panel]


@dataclass(frozen=True)
class Recipe:
    """A figure of tables. needs: their file stems, the first the one without which there is little to see; panels:
    what to draw where at least one of them was given."""

    stem: str
    title: str
    caption: str
    needs: tuple[str, ...]
    panels: Callable[[Tables], list[Panel]]

    def given(self, tables: Tables) -> bool:
        return any(stem in tables for stem in self.needs)

    @property
    def maker(self) -> str:
        """The command that makes it."""
        return MAKERS[self.needs[0]]

    def plot(self, tables: Tables) -> Plot:
        return Plot(self.stem, self.title, self.caption, self.panels(tables))


def note_panel(title: str, note: str) -> Panel:
    """A panel that says why there is nothing to draw."""

    def draw(axes: Axes) -> None:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "\n".join(textwrap.wrap(note, 44)), ha="center", va="center", color=UNSURE)

    return Panel(title, draw, note, height=1.6)
