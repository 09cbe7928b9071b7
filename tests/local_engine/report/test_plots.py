"""The static figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from local_engine.report import save_plots
from local_engine.report.plots import NEUTRAL, ONE_DRAW, SURE, UNSURE, entropy_disagreement, gain_intervals

from .synthetic import make_data, without_intervals, without_parts

TITLES = {"gain": "gain, ", "reverse_gain": "reverse gain", "vs_random": "gain minus random"}


def test_plots_are_written_in_both_formats(tmp_path: Path) -> None:
    paths = save_plots(make_data(contexts=4, length=32, seeds=2, steps=5), tmp_path / "plots")
    assert [path.name for path in paths] == [
        f"{name}.{ending}"
        for name in ("gain_intervals", "entropy_disagreement", "training_curves")
        for ending in ("png", "pdf")
    ]
    assert all(path.stat().st_size > 5000 for path in paths)


def panel_of(made: dict, measure: str):
    """The panel of one measure."""
    panels = {axes.get_title().lower(): axes for axes in gain_intervals(made).axes}
    (axes,) = [panels[title] for title in panels if title.startswith(TITLES[measure])]
    return axes


def marks(axes) -> tuple[list, list]:
    """The intervals and the dots of a panel that are not the zero line or a rule."""
    dots = [line for line in axes.lines if line.get_marker() == "o" and np.isfinite(line.get_xdata()).all()]
    return [line for line in axes.lines if line.get_linewidth() == 2], dots


@pytest.mark.parametrize("measure", ["gain", "reverse_gain"])
def test_an_interval_that_holds_zero_is_grey(measure: str, data: dict) -> None:
    rows = data["results"]
    crossing = sum(row[f"{measure}_low"] <= 0 <= row[f"{measure}_high"] for row in rows)
    assert 0 < crossing < len(rows)
    intervals, dots = marks(panel_of(data, measure))
    for found in ([line.get_color() for line in intervals], [dot.get_markeredgecolor() for dot in dots]):
        assert (found.count(UNSURE), found.count(SURE)) == (crossing, len(rows) - crossing)
    assert "for this trained student" in gain_intervals(data).get_suptitle()


def test_difference_from_random_is_drawn_without_a_verdict(data: dict) -> None:
    count = sum(row["vs_random_mean"] is not None for row in data["results"])
    axes = panel_of(data, "vs_random")
    intervals, dots = marks(axes)
    assert [line.get_color() for line in intervals] == [NEUTRAL] * count
    assert {(dot.get_markeredgecolor(), dot.get_markerfacecolor()) for dot in dots} == {(NEUTRAL, NEUTRAL)}
    assert " ".join(ONE_DRAW.split()) in " ".join(axes.get_xlabel().split())
    assert ONE_DRAW not in panel_of(data, "gain").get_xlabel()


@pytest.mark.parametrize("measure", list(TITLES))
def test_mean_without_interval_is_a_neutral_dot(measure: str, tmp_path: Path) -> None:
    made = without_intervals()
    intervals, dots = marks(panel_of(made, measure))
    assert not intervals
    assert len(dots) == sum(row[f"{measure}_mean"] is not None for row in made["results"])
    assert {dot.get_markerfacecolor() for dot in dots} == {NEUTRAL}
    assert len(save_plots(made, tmp_path)) == 6


@pytest.mark.parametrize(
    ("splits", "shown", "words"),
    [
        ({"held-out", "rollout"}, 2, "of the 2 contexts shown, first rollout;"),
        ({"held-out"}, 3, "of the 3 contexts shown, held-out (selectors replayed);"),
    ],
)
def test_plane_shows_what_was_distilled(splits: set[str], shown: int, words: str) -> None:
    made = make_data(contexts=5, length=20, seeds=1, steps=1)
    made["contexts"] = [item for item in made["contexts"] if item["split"] in splits]
    figure = entropy_disagreement(made)
    title = figure.get_suptitle()
    assert f"n = {20 * shown} tokens {words}" in title
    split = "rollout" if "rollout" in splits else "held-out"
    kept = sum(item["kept"]["random:0.10"].count("1") for item in made["contexts"] if item["split"] == split)
    assert f"random:0.10\nkept n = {kept}" in [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]


def test_plots_stand_missing_parts(tmp_path: Path) -> None:
    made = without_parts()
    assert len(save_plots(made, tmp_path / "plots")) == 6
    assert len(save_plots(made | {"contexts": [], "results": []}, tmp_path / "empty")) == 6
