"""How every figure looks, and the panel, its unit: drawn alone on the page and side by side in the files."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from ta_opd.files import atomic_path

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
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a9098",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,
    "text.parse_math": False,
}
_PER_ROW = 3


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


def note_panel(title: str, note: str) -> Panel:
    """A panel that says why there is nothing to draw."""

    def draw(axes: Axes) -> None:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "\n".join(textwrap.wrap(note, 44)), ha="center", va="center", color=UNSURE, style="italic")

    return Panel(title, draw, note, height=1.6)


def save_plot(plot: Plot, directory: Path) -> list[Path]:
    """directory/STEM.png (150 dpi) and .pdf with all panels."""
    columns = min(_PER_ROW, len(plot.panels))
    lines = math.ceil(len(plot.panels) / columns)
    rows = [plot.panels[start : start + columns] for start in range(0, len(plot.panels), columns)]
    heights = [max(panel.height for panel in row) for row in rows]
    width = max(panel.width for panel in plot.panels)
    paths = []
    with rc_context(STYLE):
        caption = "\n".join(textwrap.wrap(plot.caption, round(16 * columns * width)))
        head = 0.55 + 0.15 * caption.count("\n")
        figure = Figure(figsize=(columns * width, sum(heights) + head), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(lines, columns, height_ratios=heights)
        for index, panel in enumerate(plot.panels):
            axes = figure.add_subplot(grid[index // columns, index % columns])
            panel.draw(axes)
            axes.set_title(panel.title)
        figure.suptitle(f"{plot.title}\n{caption}", fontsize=8.5, x=0.01, ha="left")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # both files from one layout, the slowest part
        directory.mkdir(parents=True, exist_ok=True)
        for ending in ("png", "pdf"):
            path = directory / f"{plot.stem}.{ending}"
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format=ending, dpi=150)
            paths.append(path)
    return paths


def panel_png(panel: Panel, dpi: int = 170) -> bytes:
    """One panel as PNG, for the page."""
    with rc_context(STYLE):
        figure = Figure(figsize=(panel.width, panel.height), layout="constrained")
        FigureCanvasAgg(figure)
        panel.draw(figure.add_subplot())
        figure.suptitle(panel.title, fontsize=9, x=0.01, ha="left")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def draw_forest(
    axes: Axes, labels: Sequence[str], values: Sequence[Sequence[float]], notes: Sequence[str], unit: str
) -> None:
    """A line a label, the first on top: value, low, high; filled where the interval leaves out 0. A label without a
    number, or without an interval for a reason, has its note in its place."""
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.grid(axis="x")
    for place, ((value, low, high), note) in enumerate(zip(values, notes, strict=True)):
        if math.isnan(value) or (math.isnan(low) and note):
            at = axes.get_yaxis_transform()
            axes.text(0.02, place, _cut(note or "no number"), transform=at, va="center", style="italic", color=UNSURE)
            continue
        known = not (math.isnan(low) or math.isnan(high))
        sure = known and not low <= 0 <= high
        color = OKABE_ITO[0] if sure else UNSURE
        if known:
            axes.plot([low, high], [place, place], color=color, linewidth=2, solid_capstyle="round")
        axes.plot(
            [value], [place], "o", markersize=5.5, markeredgecolor=color, markerfacecolor=color if sure else "white"
        )
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(unit)


def draw_band(axes: Axes, x: Sequence[float], values: Sequence[Sequence[float]], index: int, label: str) -> None:
    """A line with its interval as bars; a gap where there is no number."""
    color = OKABE_ITO[index % len(OKABE_ITO)]
    middle = [value for value, _, _ in values]
    axes.plot(x, middle, color=color, marker=MARKERS[index % len(MARKERS)], markersize=3.5, linewidth=1.3, label=label)
    bars = [(at, low, high) for at, (value, low, high) in zip(x, values, strict=True) if low == low and high == high]
    axes.vlines([b[0] for b in bars], [b[1] for b in bars], [b[2] for b in bars], color=color, alpha=0.55)


def counted(values: Sequence[int | float | None]) -> str:
    """ "1,200" or "800-1,200" of counts."""
    found = sorted({round(value) for value in values if value is not None})
    if not found:
        return "0"
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,}-{found[-1]:,}"


def _cut(text: str, most: int = 52) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
