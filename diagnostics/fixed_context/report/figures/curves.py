"""Gain by buckets of each score, and measures along the response."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ...statistics.tables import Row
from ..tables import Tables, number
from .marks import counted, draw_band, legend_above
from .style import INK, UNSURE, Panel, Recipe, note_panel

SCORES = {
    "entropy": "entropy H",
    "disagreement": "disagreement D",
    "compatibility": "support C",
    "learnable": "learnable D C",
    "incompatible": "incompatible D (1 - C)",
}
MEASURES = {
    "gain": "Gain, nats",
    "overlap_ratio": "Overlap ratio of the top-K lists",
    "overlap_mass": "Student mass on the overlap",
    "teacher_overlap_mass": "Teacher mass on the overlap",
    "overlap_advantage": "Overlap-token advantage",
    "entropy_gap": "Entropy gap, nats",
}


def _bucket_panels(tables: Tables) -> list[Panel]:
    """A panel a score: residual gain and plain gain of each bucket."""
    panels = []
    for score, name in SCORES.items():
        mine = tables.rows("bucket_summary", score=score)
        numbers = [row for row in mine if row.get("residual") is not None]
        if not numbers:
            panels.append(note_panel(name, mine[0]["note"] if mine else tables.note("bucket_summary")))
            continue
        panels.append(_bucket_panel(name, numbers))
    return panels


def _bucket_panel(name: str, rows: list[Row]) -> Panel:
    def draw(axes: Axes) -> None:
        x = list(range(1, len(rows) + 1))
        axes.axhline(0, color=INK, linewidth=0.9)
        axes.plot(x, [number(row, "gain")[0] for row in rows], color=UNSURE, linestyle=(0, (3, 2)), label="gain")
        draw_band(axes, x, [number(row, "residual", "residual_low", "residual_high") for row in rows], 0, "residual")
        axes.set_xticks(x, [f"{row['score_mean']:.2f}" for row in rows], fontsize=7)
        axes.set_xlabel("mean normalised score of the bucket")
        axes.set_ylabel("nats a token")
        axes.grid(axis="y")
        legend_above(axes)

    title = f"{name}\nn = {counted([row['tokens'] for row in rows])} tokens a bucket, {len(rows)} buckets"
    return Panel(title, draw, f"residual gain over {len(rows)} buckets of {name}")


def _position_panels(tables: Tables) -> list[Panel]:
    """A panel a measure along the response; a line a checkpoint where opd_measures was given."""
    rows = [row | {"checkpoint": "before"} for row in tables.get("position_measures", [])]
    if tables.get("opd_measures_positions"):
        rows = [row for row in rows if row["measure"] == "gain"] + tables["opd_measures_positions"]
    if not rows:
        return [note_panel("Measures along the response", tables.note("position_measures"))]
    panels = []
    for measure, name in MEASURES.items():
        mine = [row for row in rows if row["measure"] == measure and row["mean"] is not None]
        if not mine:
            panels.append(note_panel(name, "no number: the columns it needs are not in the file"))
            continue
        panels.append(_position_panel(measure, name, mine))
    return panels


def _position_panel(measure: str, name: str, rows: list[Row]) -> Panel:
    checkpoints = list(dict.fromkeys(row["checkpoint"] for row in rows))

    def draw(axes: Axes) -> None:
        for index, checkpoint in enumerate(checkpoints):
            mine = [row for row in rows if row["checkpoint"] == checkpoint]
            x = [(row["pos_low"] + row["pos_high"]) / 2 for row in mine]
            label = "before less after" if measure == "gain" else checkpoint
            draw_band(axes, x, [number(row, "mean", "mean_low", "mean_high") for row in mine], index, label)
        if measure == "gain":
            axes.axhline(0, color=INK, linewidth=0.9)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("token position in the response")
        axes.grid(axis="y")
        if len(checkpoints) > 1:
            legend_above(axes)

    title = f"{name}\nn = {counted([row['tokens'] for row in rows])} tokens a bin"
    return Panel(title, draw, f"{name} along the response")


BUCKETS = Recipe(
    "buckets",
    "Gain by buckets",
    "Buckets of about equal size of each normalised score. Blue: gain less what the other scores explain linearly; "
    "grey: gain. Bars: 95% over prompts.",
    ("bucket_summary",),
    _bucket_panels,
)
POSITIONS = Recipe(
    "positions",
    "Along the response",
    "Bins of about equal numbers of tokens. Bars: 95% over prompts.",
    ("position_measures", "opd_measures_positions"),
    _position_panels,
)
