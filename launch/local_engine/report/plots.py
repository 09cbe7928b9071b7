"""Static figures of a run: gain intervals, the entropy/disagreement plane, and training curves."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

SURE, UNSURE, NEUTRAL, KEPT = "#0072B2", "#767d86", "#4a3f6b", "#D55E00"
DENSITY = LinearSegmentedColormap.from_list("density", ["#e6e9ed", "#68717d"])
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a9098",
    "grid.color": "#e4e6e9",
    "axes.axisbelow": True,
    "pdf.fonttype": 42,
    "text.parse_math": False,
}
MEASURES = {
    "gain": "Gain, KL(teacher || student)",
    "reverse_gain": "Reverse gain, KL(student || teacher)",
    "vs_random": "Gain minus random, same ratio",
}
WITH_VERDICT = ("gain", "reverse_gain")
ONE_DRAW = "One draw against one draw:\ntwo random selections can differ as much;\ncompare several seeds."
Row = Mapping[str, Any]


def number(value: float | None) -> float:
    """Turn a missing value into NaN, which matplotlib leaves out."""
    return math.nan if value is None else float(value)


def by_label(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows by selector and budget, seeds in rising order."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        groups.setdefault(row["label"], []).append(row)
    return groups


def interval_style(measure: str, low: float, high: float) -> tuple[str, str]:
    """Colour of a mark and of the inside of its dot; neutral where the interval carries no verdict on zero."""
    if measure not in WITH_VERDICT or math.isnan(low) or math.isnan(high):
        return NEUTRAL, NEUTRAL
    return (UNSURE, "white") if low <= 0 <= high else (SURE, SURE)


def draw_interval(axes: Axes, row: Row, measure: str, height: float) -> None:
    """Draw one mean, with its interval where that is known."""
    mean, low, high = (number(row[f"{measure}_{part}"]) for part in ("mean", "low", "high"))
    color, face = interval_style(measure, low, high)
    if not math.isnan(low) and not math.isnan(high):
        axes.plot([low, high], [height, height], color=color, linewidth=2, solid_capstyle="round")
    axes.plot([mean], [height], "o", markersize=5, markerfacecolor=face, markeredgecolor=color, zorder=3)


def gain_intervals(data: Mapping[str, Any]) -> Figure:
    """Forest plot: mean and 95% interval of both gains of every method and seed, and the difference from random."""
    groups = by_label(data["results"])
    names = sorted(groups, key=lambda name: np.mean([number(row["gain_mean"]) for row in groups[name]]))
    shown = [name for name in MEASURES if any(row.get(f"{name}_mean") is not None for row in data["results"])] or [
        "gain"
    ]
    rows = max((len(group) for group in groups.values()), default=1)
    height = 1.75 + len(names) * max(0.24, 0.13 * rows + 0.09)
    figure = Figure(figsize=(2 + 3 * len(shown), height), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, measure in zip(panels, shown, strict=True):
        axes.axvline(0, color="#30343a", linewidth=0.9)
        axes.grid(axis="x")
        for place, name in enumerate(names):
            for index, row in enumerate(groups[name]):
                offset = (index - (len(groups[name]) - 1) / 2) * 0.74 / rows
                draw_interval(axes, row, measure, place - offset)
        axes.set_title(MEASURES[measure])
        axes.set_xlabel("nats per token" if measure in WITH_VERDICT else f"nats per token\n{ONE_DRAW}")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        for place in range(1, len(names)):
            axes.axhline(place - 0.5, color="#e4e6e9", linewidth=0.7, linestyle=(0, (1, 2)))
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(-0.6, max(len(names), 1) - 0.4)
    figure.suptitle(
        f"95% intervals, n = {data['contexts_n']} contexts from {data['prompts_n']} prompts; one line per seed."
        " Both gains, for this trained student: blue is above or below 0, grey and hollow is not distinguishable from"
        " 0. A dot alone: interval missing",
        fontsize=8,
        x=0.01,
        ha="left",
        wrap=True,
    )
    return figure


def plane_contexts(data: Mapping[str, Any]) -> tuple[list[Row], str]:
    """The shown contexts with both scores, and where from: the first rollout, which was distilled, if there is one."""
    contexts = [item for item in data["contexts"] if {"entropy", "disagreement"} <= set(item["scores"])]
    rollout = [item for item in contexts if item["split"] == "rollout"]
    if rollout:
        return rollout, "first rollout"
    return contexts, " and ".join(dict.fromkeys(f"{item['split']} (selectors replayed)" for item in contexts))


def plane_points(contexts: Sequence[Row]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Entropy and disagreement of every token that has both, and per selector which of them it keeps."""
    labels = dict.fromkeys(label for item in contexts for label in item["kept"])
    values = np.array(
        [[number(value) for item in contexts for value in item["scores"][name]] for name in ("entropy", "disagreement")]
    )
    there = np.isfinite(values).all(axis=0)
    kept = {
        label: np.array(
            [mark == "1" for item in contexts for mark in item["kept"].get(label, "0" * len(item["tokens"]))],
            dtype=bool,
        )[there]
        for label in labels
    }
    return values[:, there], kept


def panel_grid(count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels that share their axes, at most four in a row."""
    columns = max(1, min(4, count))
    lines = max(1, math.ceil(count / columns))
    figure = Figure(figsize=(columns * size[0], lines * size[1] + 0.4), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    flat = list(panels.flat)
    for axes in flat[count:]:
        axes.set_axis_off()
    for axes in flat[max(0, count - columns) : count]:
        axes.xaxis.set_tick_params(labelbottom=True)
    return figure, flat[:count]


def score_name(data: Mapping[str, Any], name: str, default: str) -> str:
    """Label of a score with its unit."""
    info = data.get("score_info", {}).get(name, {"label": default, "unit": "nats"})
    return f"{info['label']} ({info['unit']})" if info["unit"] else info["label"]


def entropy_disagreement(data: Mapping[str, Any]) -> Figure:
    """One panel per selector: density of the tokens, and those that the selector keeps."""
    contexts, place = plane_contexts(data)
    values, kept = plane_points(contexts)
    values = np.sqrt(np.maximum(values, 0))
    figure, panels = panel_grid(len(kept), (2.35, 2.15))
    total = values.shape[1]
    for axes, (label, mask) in zip(panels, kept.items(), strict=True):
        axes.set_title(f"{label}\nkept n = {int(mask.sum()):,}", fontsize=8.5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(lambda root, _: f"{root * root:.3g}")
        if not total:
            continue
        axes.hexbin(*values, gridsize=28, bins="log", mincnt=1, cmap=DENSITY, linewidths=0.1)
        size = 7 if mask.sum() < 1500 else 2
        axes.scatter(*values[:, mask], s=size, c=KEPT, marker="D", linewidths=0, alpha=0.75, rasterized=True)
        for line, middle in zip((axes.axvline, axes.axhline), np.median(values, axis=1), strict=True):
            line(middle, color="#30343a", linewidth=0.8, linestyle=(0, (4, 3)))
    figure.supxlabel(score_name(data, "entropy", "student entropy"), fontsize=9)
    figure.supylabel(score_name(data, "disagreement", "disagreement"), fontsize=9)
    figure.suptitle(
        f"Grey: log density of n = {total:,} tokens of the {len(contexts)} contexts shown, {place}; orange: kept;"
        " dashed: medians; square-root axes",
        fontsize=9,
        x=0.01,
        ha="left",
        wrap=True,
    )
    return figure


def training_curves(data: Mapping[str, Any]) -> Figure:
    """One panel per method: reverse KL by step, one line per seed, over the curves of the other methods."""
    groups = by_label([row for row in data["history"] if row.get("reverse_kl") is not None])
    curves = {label: seed_curves(rows) for label, rows in groups.items()}
    figure, panels = panel_grid(len(curves), (2.35, 1.8))
    for axes, (label, own) in zip(panels, curves.items(), strict=True):
        for other, lines in curves.items():
            for steps, values in lines if other != label else []:
                axes.plot(steps, values, color="#dfe2e5", linewidth=0.7)
        for steps, values in own:
            axes.plot(steps, values, color=SURE, linewidth=1.3, marker="o" if len(steps) == 1 else "")
        axes.set_title(f"{label}\nn = {len(own)} {'seed' if len(own) == 1 else 'seeds'}", fontsize=8.5)
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.supxlabel("training step", fontsize=9)
    figure.supylabel("reverse KL (nats)", fontsize=9)
    figure.suptitle("Reverse KL during training; grey: the other methods", fontsize=9, x=0.01, ha="left")
    return figure


def seed_curves(rows: Sequence[Row]) -> list[tuple[list[int], list[float]]]:
    """Split the rows of one method into one curve per seed."""
    seeds: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["step"]):
        seeds.setdefault(row["seed"], []).append(row)
    return [([row["step"] for row in run], [number(row["reverse_kl"]) for row in run]) for run in seeds.values()]


def save_plots(data: Mapping[str, Any], directory: str | os.PathLike[str]) -> list[Path]:
    """Save every figure as PNG (150 dpi) and PDF, and return the paths."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with rc_context(STYLE):
        for draw in (gain_intervals, entropy_disagreement, training_curves):
            figure = draw(data)
            FigureCanvasAgg(figure)
            for ending in ("png", "pdf"):
                path = folder / f"{draw.__name__}.{ending}"
                figure.savefig(path, dpi=150)
                paths.append(path)
    return paths
