"""Entropy and disagreement before training, coloured by what was gained there."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...statistics.gain import GainTable
from .marks import color_bar
from .style import DIVERGING, INK, SEQUENTIAL, Panel, Plot, note_panel

LEAST = 5
"""Tokens below which a hexagon has no mean."""
_SIZE = 30


def plane_plot(table: GainTable) -> Plot:
    """Two hexbins over the same plane, square-root axes: mean gain, and the number of tokens."""
    gain, n = table.gain["absolute"], len(table)
    x, y = (np.sqrt(np.maximum(values, 0)) for values in (table.entropy, table.disagreement[table.topk]))
    size = f"n = {n:,} tokens"
    caption = (
        f"Dashed: medians, which cut the four quadrants; Q3 is above left. Square-root axes. Hexagons of fewer than "
        f"{LEAST} tokens have no mean."
    )
    if np.ptp(gain) == 0:
        note = f"all gains are equal ({gain[0]:g})"
        panels = [note_panel(f"Mean gain, {size}", note)]
    elif np.ptp(x) == 0 or np.ptp(y) == 0:
        panels = [note_panel(f"Mean gain, {size}", "entropy or disagreement has one value only: there is no plane")]
    else:
        panels = [
            Panel(f"Mean gain, nats\n{size}", lambda axes: _gain(axes, x, y, gain), "hexbin of mean gain", height=3.4),
            Panel(f"Tokens, log scale\n{size}", lambda axes: _count(axes, x, y), "hexbin of counts", height=3.4),
        ]
    return Plot("entropy_disagreement_gain", "Where tokens gained", caption, panels)


def _gain(axes: Axes, x: np.ndarray, y: np.ndarray, gain: np.ndarray) -> None:
    cells = axes.hexbin(x, y, C=gain, gridsize=_SIZE, mincnt=LEAST, cmap=DIVERGING, linewidths=0.1)
    means = np.ma.compressed(cells.get_array())
    edge = float(np.quantile(np.abs(means), 0.95)) if len(means) else 0.0
    edge = edge or 1.0
    cells.set_clim(-edge, edge)
    color_bar(axes, cells, label="mean gain, nats", extend="both")
    _finish(axes, x, y)


def _count(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    cells = axes.hexbin(x, y, gridsize=_SIZE, bins="log", mincnt=1, cmap=SEQUENTIAL, linewidths=0.1)
    color_bar(axes, cells, label="tokens", format=lambda count, _: f"{count:,.0f}")
    _finish(axes, x, y)


def _finish(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    axes.axvline(np.median(x), color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.axhline(np.median(y), color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(lambda root, _: f"{root * abs(root):.3g}")
    axes.set_xlabel("student entropy H before, nats")
    axes.set_ylabel("disagreement D before, nats")
