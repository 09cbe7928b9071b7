"""What every selector would have kept of a token bank: overlap, position, coverage. Counts, so without intervals."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...statistics.tables import Row
from ..tables import Tables, number
from .marks import counted, draw_band, legend_above, noted
from .style import INK, MARKERS, OKABE_ITO, SEQUENTIAL, UNSURE, Panel, Recipe, note_panel

_WITH_NUMBERS = 12
"""Entries up to which the heat map's cells have room for their number."""


def _panels(tables: Tables) -> list[Panel]:
    return [_jaccard(tables), _positions(tables), _coverage(tables), _rollouts(tables)]


def _jaccard(tables: Tables) -> Panel:
    title, rows = "Jaccard index of the kept tokens", tables.get("replay_jaccard", [])
    if not rows:
        return note_panel(title, tables.note("replay_jaccard"))
    names = [row["entry"] for row in rows]
    grid = np.array([number(row, *names) for row in rows])

    def draw(axes: Axes) -> None:
        axes.imshow(np.ma.masked_invalid(grid), cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
        for (y, x), value in np.ndenumerate(grid):
            if np.isnan(value):
                note = noted("none kept", 5)
                axes.text(x, y, note, ha="center", va="center", fontsize=6, color=UNSURE)
            elif len(names) <= _WITH_NUMBERS:
                color = "white" if value > 0.55 else "black"
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
        axes.set_xticks(range(len(names)), [str(place + 1) for place in range(len(names))])
        axes.set_yticks(range(len(names)), [f"{name}  {place + 1}" for place, name in enumerate(names)])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    lines = (f"{name}: {', '.join(f'{value:.2g}' for value in row)}" for name, row in zip(names, grid, strict=True))
    alt = "; ".join(lines)
    return Panel(f"{title}\nn = {counted([row['kept'] for row in rows])} kept", draw, alt, height=_height(names))


def _positions(tables: Tables) -> Panel:
    title, rows = "Where in the response", tables.get("replay_positions", [])
    if not rows:
        return note_panel(title, tables.note("replay_positions"))
    names = list(dict.fromkeys(row["entry"] for row in rows))
    parts = {name: [row for row in rows if row["entry"] == name] for name in names}
    shares = {name: np.array([number(row, "share")[0] for row in part]) for name, part in parts.items()}
    most = {name: max((value for value in share if value == value), default=0.0) for name, share in shares.items()}
    tallest = max(most.values()) or 1.0

    def draw(axes: Axes) -> None:
        for place, name in enumerate(names):
            part, foot = parts[name], place + 0.42
            kept, valid = sum(row["kept"] for row in part), sum(row["valid"] for row in part)
            if not kept:
                axes.text(0.02, place, "keeps no token", va="center", fontsize=7, color=UNSURE)
                continue
            edges = [row["position_low"] for row in part] + [part[-1]["position_high"]]
            axes.stairs(foot - 0.84 * shares[name] / tallest, edges, baseline=foot, fill=True, color=OKABE_ITO[4])
            axes.hlines(foot - 0.84 * kept / valid / tallest, 0, 1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.hlines(foot, 0, 1, color=INK, linewidth=0.6)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["first token", "middle", "last"])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)

    kept = counted([sum(row["kept"] for row in part) for part in parts.values()])
    size = f"n = {kept} kept of {sum(row['valid'] for row in parts[names[0]]):,} tokens"
    alt = "; ".join(f"{name}: at most {value:.2g} of a bin" for name, value in most.items())
    return Panel(f"{title} (highest bar: {tallest:.2g})\n{size}", draw, alt, height=_height(names))


def _coverage(tables: Tables) -> Panel:
    title, rows = "What keeps at least one token", tables.get("replay_selectors", [])
    if not rows:
        return note_panel(title, tables.note("replay_selectors"))
    names = [row["entry"] for row in rows]
    effective = {name: _effective(tables.rows("replay_rollouts", entry=name)) for name in names}
    marks = {
        "prompts": [_share(row["prompts_covered"], row["prompts"]) for row in rows],
        "responses": [_share(row["responses_covered"], row["responses"]) for row in rows],
        "effective prompts": [float(np.mean(effective[name])) if effective[name] else np.nan for name in names],
    }

    def draw(axes: Axes) -> None:
        axes.grid(axis="x")
        for index, (label, values) in enumerate(marks.items()):
            places = np.arange(len(names)) + 0.2 * (index - 1)
            axes.plot(values, places, MARKERS[index], color=OKABE_ITO[index], markersize=4.5, label=label)
        for place, row in enumerate(rows):
            if not row["kept"]:
                axes.text(0.02, place, "keeps no token", va="center", fontsize=7, color=UNSURE)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -1.5)
        axes.set_xlim(0, 1.04)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("share of all")
        axes.legend(fontsize=7, ncols=3, loc="upper right", columnspacing=0.8, handletextpad=0.1, borderaxespad=0)

    first = rows[0]
    size = f"n = {first['prompts'] or 0:,} prompts, {first['responses'] or 0:,} responses"
    alt = "; ".join(f"{label}: {', '.join(f'{v:.2g}' for v in values)}" for label, values in marks.items())
    return Panel(f"{title}\n{size}", draw, alt, height=_height(names) + 0.25)


def _rollouts(tables: Tables) -> Panel:
    title, rows = "Effective prompts by rollout", tables.get("replay_rollouts", [])
    if not rows:
        return note_panel(title, tables.note("replay_rollouts"))
    names = list(dict.fromkeys(row["entry"] for row in rows))
    steps = sorted({row["rollout_id"] for row in rows})
    size = f"n = {counted([row['prompts'] for row in rows])} prompts a rollout, {len(steps):,} rollouts"
    if len(steps) < 2:
        return note_panel(f"{title}\n{size}", "one rollout only: there is no line over rollouts")
    shown = names[: len(OKABE_ITO)]

    def draw(axes: Axes) -> None:
        for index, name in enumerate(shown):
            means = [_effective([r for r in rows if (r["entry"], r["rollout_id"]) == (name, step)]) for step in steps]
            values = [(float(np.mean(mean)) if mean else np.nan, np.nan, np.nan) for mean in means]
            draw_band(axes, steps, values, index, name)
        axes.set_xlabel("rollout")
        axes.set_ylabel("share of the rollout's prompts")
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        legend_above(axes)

    if len(shown) < len(names):
        size += f", first {len(shown)} of {len(names)}"
    return Panel(f"{title}\n{size}", draw, "lines of effective prompts over rollouts", height=_height(names) + 0.25)


def _effective(rows: list[Row]) -> list[float]:
    """Effective prompts as a share of the rollout's, for each rollout that keeps a token."""
    return [row["prompts_effective"] / row["prompts"] for row in rows if row["prompts_effective"] is not None]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else np.nan


def _height(names: list[str]) -> float:
    return 1.1 + 0.36 * max(len(names), 5)


MASKS = Recipe(
    "masks",
    "What other selectors would have kept",
    "Masks made again on a saved token bank, in which everything is counted: no intervals. Two random draws of a tenth "
    "share 0.05. Positions: bars are the share of the tokens there that is kept, on one scale; dashed: the share of "
    "all. Effective prompts: as many as would hold the kept tokens if each held the same number.",
    ("replay_jaccard", "replay_positions", "replay_selectors", "replay_rollouts"),
    _panels,
)
