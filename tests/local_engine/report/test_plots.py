"""The static figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_engine.report import save_plots
from local_engine.report.plots import UNSURE, gain_intervals

from .synthetic import make_data, without_parts

TITLES = {"gain": "gain, ", "reverse_gain": "reverse gain", "vs_random": "gain minus random"}


def test_plots_are_written_in_both_formats(tmp_path: Path) -> None:
    paths = save_plots(make_data(contexts=4, length=32, seeds=2, steps=5), tmp_path / "plots")
    assert [path.name for path in paths] == [
        f"{name}.{ending}"
        for name in ("gain_intervals", "entropy_disagreement", "training_curves")
        for ending in ("png", "pdf")
    ]
    assert all(path.stat().st_size > 5000 for path in paths)


@pytest.mark.parametrize("measure", ["gain", "reverse_gain", "vs_random"])
def test_an_interval_that_holds_zero_is_grey(measure: str, data: dict) -> None:
    panels = {axes.get_title(): axes for axes in gain_intervals(data).axes}
    (axes,) = [panels[title] for title in panels if title.lower().startswith(TITLES[measure])]
    rows = [row for row in data["results"] if row[f"{measure}_mean"] is not None]
    crossing = sum(row[f"{measure}_low"] <= 0 <= row[f"{measure}_high"] for row in rows)
    assert 0 < crossing < len(rows)
    assert sum(line.get_color() == UNSURE and len(line.get_xdata()) == 2 for line in axes.lines) == crossing


def test_plots_stand_missing_parts(tmp_path: Path) -> None:
    made = without_parts()
    assert len(save_plots(made, tmp_path / "plots")) == 6
    assert len(save_plots(made | {"contexts": [], "results": []}, tmp_path / "empty")) == 6
