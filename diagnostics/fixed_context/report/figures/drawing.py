"""From a plot to its files: drawn once as pixels and once as PDF; the page's images are cut out of those pixels.

Lengths are inches from the upper left corner.
"""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from PIL import Image
from ta_opd.files import atomic_path

from .style import STYLE, Panel, Plot

DPI = 170
_PER_ROW = 3
_PAD = 0.1
_LINE = 0.155


@dataclass(frozen=True)
class Drawing:
    """png and pdf: files with all panels of the plot; images: each panel alone, PNG."""

    plot: Plot
    png: bytes
    pdf: bytes
    images: list[bytes]


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    width: float
    height: float


def draw_plot(plot: Plot) -> Drawing:
    """Panels side by side, at most three in a row, each in its own box under the title and the caption."""
    with rc_context(STYLE):
        figure, boxes = _composed(plot)
        canvas = FigureCanvasAgg(figure)
        for panel, box in zip(plot.panels, boxes, strict=True):
            _draw_panel(figure, panel, box, canvas.get_renderer())
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        # print_pdf rather than savefig, which draws everything twice
        pdf = io.BytesIO()
        FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})
    return Drawing(plot, _png(pixels), pdf.getvalue(), [_png(_cut(pixels, box)) for box in boxes])


def save_drawing(drawing: Drawing, directory: Path) -> list[Path]:
    """directory/STEM.png and .pdf."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for ending, data in (("png", drawing.png), ("pdf", drawing.pdf)):
        path = directory / f"{drawing.plot.stem}.{ending}"
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
        paths.append(path)
    return paths


def _composed(plot: Plot) -> tuple[Figure, list[Box]]:
    """The figure with its title and caption, and where each panel goes."""
    columns = 2 if len(plot.panels) == 4 else min(_PER_ROW, len(plot.panels))
    width = max(panel.width for panel in plot.panels)
    caption = textwrap.wrap(plot.caption, round(16 * columns * width))
    top = 2 * _PAD + _LINE * (1 + len(caption))
    boxes = []
    for start in range(0, len(plot.panels), columns):
        row = plot.panels[start : start + columns]
        boxes += [Box(width * column, top, width, panel.height) for column, panel in enumerate(row)]
        top += max(panel.height for panel in row)
    figure = Figure(figsize=(columns * width, top), dpi=DPI)
    text = "\n".join([plot.title, *caption])
    figure.text(_PAD / (columns * width), 1 - _PAD / top, text, fontsize=8.5, ha="left", va="top")
    return figure, boxes


def _draw_panel(figure: Figure, panel: Panel, box: Box, renderer: RendererBase) -> None:
    """The title on top of the box, the axes with its labels in the rest."""
    head = _PAD + _LINE * (1 + panel.title.count("\n"))
    place = _placed(figure, Box(box.left + _PAD, box.top + _PAD / 2, 0, 0))
    figure.text(place.x0, place.y1, panel.title, fontsize=9, ha="left", va="top")
    inner = Box(box.left + _PAD, box.top + head, box.width - 2 * _PAD, box.height - head - _PAD)
    region = _placed(figure, inner)
    axes = figure.add_axes(region.bounds)
    panel.draw(axes)
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_locator(), AutoLocator):
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    _fit(axes, region, renderer)


def _fit(axes: Axes, region: Bbox, renderer: RendererBase) -> None:
    """Shrink axes that fill the region until their labels lie in it too. Once is enough: labels keep their size, and
    no locator asks how long its axis is."""
    around, inside = axes.get_tightbbox(renderer), axes.get_window_extent(renderer)
    to_figure = axes.figure.transFigure.inverted()
    around, inside = around.transformed(to_figure), inside.transformed(to_figure)
    axes.set_position(
        Bbox.from_extents(
            region.x0 + inside.x0 - around.x0,
            region.y0 + inside.y0 - around.y0,
            region.x1 + inside.x1 - around.x1,
            region.y1 + inside.y1 - around.y1,
        )
    )


def _placed(figure: Figure, box: Box) -> Bbox:
    """In shares of the figure, from the lower left corner."""
    width, height = figure.get_size_inches()
    bottom = 1 - (box.top + box.height) / height
    return Bbox.from_bounds(box.left / width, bottom, box.width / width, box.height / height)


def _cut(pixels: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    top, left, bottom, right = (round(DPI * x) for x in (box.top, box.left, box.top + box.height, box.left + box.width))
    return pixels[top:bottom, left:right]


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", dpi=(DPI, DPI), compress_level=3)
    return buffer.getvalue()
