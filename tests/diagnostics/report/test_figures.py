"""Figures: n on every panel, a note where there is no number, two files each."""

import pytest
from fixed_context.report.figures import all_plots, panel_png, save_plot
from fixed_context.report.figures.style import OKABE_ITO, counted
from fixed_context.report.tables import Tables, read_tables
from matplotlib.figure import Figure

from .report_files import metrics_frame, source_of


@pytest.fixture(scope="module")
def plots(analysed):
    tables = read_tables([analysed / name for name in ("gain", "topn", "support", "measures")])
    return {plot.stem: plot for plot in all_plots(source_of(metrics_frame()).table, tables)}


def drawn_texts(panel):
    axes = Figure().add_subplot()
    panel.draw(axes)
    return [text.get_text() for text in axes.texts]


def test_every_panel_says_its_n(plots):
    assert set(plots) == {
        *("entropy_disagreement_gain", "gap_forest", "coefficients", "gain_by_budget", "buckets"),
        *("support_definitions", "positions"),
    }
    for plot in plots.values():
        for panel in plot.panels:
            assert (
                "n = " in panel.title
                or "n under" in panel.title
                or panel.alt in drawn_texts(panel)[0].replace("\n", " ")
            )


def test_a_panel_is_an_image_and_a_plot_two_files(plots, tmp_path):
    assert panel_png(plots["gap_forest"].panels[0]).startswith(b"\x89PNG")
    png, pdf = save_plot(plots["gap_forest"], tmp_path / "figures")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["gap_forest.pdf", "gap_forest.png"]


def test_without_tables_every_panel_says_which_command_makes_them():
    for plot in all_plots(source_of(metrics_frame()).table, Tables())[1:]:
        for panel in plot.panels:
            assert "not given: " in " ".join(drawn_texts(panel)).replace("\n", " "), plot.stem


def test_a_row_without_a_number_is_drawn_as_its_note():
    tables = Tables()
    row = {
        "gain": "absolute",
        "k": 16,
        "model": "split",
        "tokens": 10,
        "prompts": 1,
        "beta": None,
        "low": None,
        "high": None,
    }
    tables["regression_summary"] = [row | {"term": "gap_raw", "note": "one prompt only"}]
    head = {"score": "entropy", "bucket": 0, "residual": None, "tokens": 10, "prompts": 1}
    tables["bucket_summary"] = [head | {"note": "constant: entropy"}]
    cell = {
        "dataset": "a",
        "definition": "mass",
        "k": 8,
        "quantity": "gap_raw",
        "value": None,
        "tokens": 10,
        "prompts": 1,
    }
    tables["support_definitions"] = [
        cell | {"note": "the file has no D"},
        cell | {"k": 16, "value": 0.5, "low": 0.1, "high": 0.9, "note": ""},
    ]
    plots = {plot.stem: plot for plot in all_plots(source_of(metrics_frame()).table, tables)}
    assert drawn_texts(plots["gap_forest"].panels[0]) == ["one prompt only"]
    assert drawn_texts(plots["buckets"].panels[0]) == ["constant: entropy"]
    assert drawn_texts(plots["support_definitions"].panels[1]) == ["the file has no D", "+0.5 *"]


def test_equal_gains_have_no_plane():
    plot = all_plots(source_of(metrics_frame("zero")).table, Tables())[0]
    assert [drawn_texts(panel) for panel in plot.panels] == [["all gains are equal (0)"]]


def test_counts_are_one_number_or_a_span():
    assert (counted([3, 3, None]), counted([1200, 3]), counted([])) == ("3", "3-1,200", "0")


def test_the_palette_is_okabe_and_itos():
    assert {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"} <= set(OKABE_ITO)
