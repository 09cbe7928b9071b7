"""Gaps and coefficients with their intervals."""

from __future__ import annotations

from ...statistics.tables import Row
from ..tables import Tables, number
from .marks import counted, draw_forest
from .style import Panel, Recipe, note_panel

METHODS = {"bootstrap": "high less low C", "matched": "matched", "matched_adjusted": "matched, adjusted"}
TERMS = {
    "entropy": "entropy H",
    "disagreement": "disagreement D",
    "entropy_x_disagreement": "H x D",
    "position": "position",
    "teacher_entropy": "teacher entropy",
    "compatibility": "support C",
    "learnable": "learnable D C",
    "incompatible": "incompatible D (1 - C)",
}
MODELS = {"compatibility": "Model with D and C", "split": "Model with D C and D (1 - C)"}
FILLED = "Filled and blue: the 95% interval leaves out 0; grey and hollow: it does not. Not corrected for many tests"


def _gap_panels(tables: Tables) -> list[Panel]:
    """Split-model gaps (nats, and standardised) and the Q3 gaps, a line for each K and method."""
    gaps = tables.rows("regression_summary", gain="absolute")
    return [
        _gap_panel(tables, gaps, "gap_raw", "Learnable less incompatible, unit slopes", "nats a unit of normalised D"),
        _gap_panel(tables, gaps, "gap", "beta learnable less beta incompatible", "standardised"),
        _q3_panel(tables),
    ]


def _gap_panel(tables: Tables, rows: list[Row], term: str, title: str, unit: str) -> Panel:
    found = [row for row in rows if row.get("term") == term]
    if not found:
        why = [row["note"] for row in rows if row.get("model") == "split" and row["note"]]
        return note_panel(title, why[0] if why else tables.note("regression_summary"))
    labels = [f"K = {row['k']}" for row in found]
    return forest_panel(found, labels, ("beta", "low", "high"), title, unit)


def _q3_panel(tables: Tables) -> Panel:
    title = "Q3, high less low support"
    found = tables.rows("q3_bootstrap_matching_summary", gain="absolute")
    if not found:
        return note_panel(title, tables.note("q3_bootstrap_matching_summary"))
    labels = [f"K = {row['k']}, {METHODS[row['method']]}" for row in found]
    names = ("difference", "difference_low", "difference_high")
    size = f"n = {counted([row['tokens'] for row in found])} tokens"
    return forest_panel(found, labels, names, title, "nats of gain a token", size)


def _coefficient_panels(tables: Tables) -> list[Panel]:
    """Standardised coefficients of both models, a panel a model and K."""
    panels = []
    for model, name in MODELS.items():
        rows = tables.rows("regression_summary", gain="absolute", model=model)
        if not rows:
            panels.append(note_panel(name, tables.note("regression_summary")))
        for k in sorted({row["k"] for row in rows}):
            mine = [row for row in rows if row["k"] == k and row["term"] in TERMS]
            title = f"{name}, K = {k}"
            if not mine:
                panels.append(note_panel(title, next(row["note"] for row in rows if row["k"] == k)))
                continue
            labels = [TERMS[row["term"]] for row in mine]
            panels.append(forest_panel(mine, labels, ("beta", "low", "high"), title, "standard deviations of gain"))
    return panels


def forest_panel(
    rows: list[Row], labels: list[str], names: tuple[str, str, str], title: str, unit: str, size: str | None = None
) -> Panel:
    """A panel with a line a row; size: its n for the title, if not that of the rows."""
    values = [number(row, *names) for row in rows]
    notes = [row.get("note", "") for row in rows]
    known = [row for row in rows if row.get(names[0]) is not None] or rows
    tokens, prompts = (counted([row.get(name) for row in known]) for name in ("tokens", "prompts"))
    size = size or f"n = {tokens} tokens of {prompts} prompts"
    alt = "; ".join(f"{label} {value[0]:.3g}" for label, value in zip(labels, values, strict=True))
    tall = any("\n" in label for label in labels)
    height = 1.15 + (0.36 if tall else 0.24) * max(len(rows), 2)
    return Panel(f"{title}\n{size}", lambda axes: draw_forest(axes, labels, values, notes, unit), alt, height=height)


GAPS = Recipe(
    "gap_forest",
    "Gaps between what the student can and cannot support",
    f"{FILLED}; the tables have p values after Holm. The first panel is 0 where gain follows D alone, the second need "
    "not be.",
    ("regression_summary", "q3_bootstrap_matching_summary"),
    _gap_panels,
)
COEFFICIENTS = Recipe(
    "coefficients",
    "Regression of the gain",
    f"Standardised gain on standardised scores before training, clustered by prompt. {FILLED}.",
    ("regression_summary",),
    _coefficient_panels,
)
