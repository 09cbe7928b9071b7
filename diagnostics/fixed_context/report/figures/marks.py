"""Marks that several figures share: forests, lines with intervals, counts in words."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.ticker import MaxNLocator

from .style import INK, MARKERS, OKABE_ITO, UNSURE


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
            axes.text(
                0.02, place, noted(note, 34), transform=at, va="center", fontsize=7, color=UNSURE,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5}, in_layout=False,
            )  # fmt: skip
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


def legend_above(axes: Axes) -> None:
    """A legend in two columns over the lines: the axis is made longer by its height."""
    handles, labels = axes.get_legend_handles_labels()
    room = 0.03 + 0.065 * math.ceil(len(labels) / 2)
    low, high = axes.get_ylim()
    axes.set_ylim(low, low + (high - low) / (1 - room))
    axes.legend(handles, labels, fontsize=7, ncols=2, loc="upper right", columnspacing=0.8)


def color_bar(axes: Axes, mappable: ScalarMappable, **options: Any) -> None:
    """To the right of the axes, moving with them."""
    axes.figure.colorbar(mappable, cax=axes.inset_axes([1.04, 0.08, 0.045, 0.84]), **options)


def counted(values: Sequence[int | float | None]) -> str:
    """ "1,200" or "800-1,200" of counts."""
    found = sorted({round(value) for value in values if value is not None})
    if not found:
        return "0"
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,}-{found[-1]:,}"


def noted(note: str, width: int, lines: int = 2) -> str:
    """Why there is no number, wrapped and cut to `lines` lines."""
    return textwrap.fill(note or "no number", width, max_lines=lines, placeholder=" …")
