"""Figures: n on every panel, a note where there is no number, two files each."""

import io

import numpy as np
import pytest
from fixed_context.report.figures import RECIPES, all_plots, draw_plot, save_drawing
from fixed_context.report.figures.drawing import DPI
from fixed_context.report.figures.marks import counted, noted
from fixed_context.report.figures.style import OKABE_ITO, Panel, Plot
from fixed_context.report.tables import MAKERS, Tables, read_tables
from matplotlib.figure import Figure
from PIL import Image

from .report_files import ANALYSES, MASKS, metrics_frame, source_of


@pytest.fixture(scope="module")
def plots(analysed):
    return drawn_from(read_tables([analysed / name for name in ANALYSES]))


def drawn_from(tables):
    return {plot.stem: plot for plot in all_plots(source_of(metrics_frame()).table, tables)[0]}


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"))


def drawn_texts(panel):
    axes = Figure().add_subplot()
    panel.draw(axes)
    return [text.get_text() for text in axes.texts]


def test_every_panel_says_its_n(plots):
    assert set(plots) == {"entropy_disagreement_gain"} | {recipe.stem for recipe in RECIPES}
    for plot in plots.values():
        for panel in plot.panels:
            assert (
                "n = " in panel.title
                or "n under" in panel.title
                or panel.alt in drawn_texts(panel)[0].replace("\n", " ")
            )


def test_a_plot_is_two_files_and_an_image_a_panel(plots, tmp_path):
    drawing = draw_plot(plots["gap_forest"])
    png, pdf = save_drawing(drawing, tmp_path / "figures")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"/FontFile2" in pdf.read_bytes(), "fonts are TrueType, so that text can be edited"
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["gap_forest.pdf", "gap_forest.png"]
    for panel, image in zip(drawing.plot.panels, drawing.images, strict=True):
        height, width = pixels(image).shape
        assert (width, height) == pytest.approx((DPI * panel.width, DPI * panel.height), abs=1)


def test_labels_stay_in_the_image_of_their_panel():
    def draw(axes):
        axes.plot([1e-3, 2e6], [1e-7, 3])
        axes.set_yticks([0, 1, 2], ["a label that is as long as labels are", "b", "c"])
        axes.set_xlabel("below")

    panels = [Panel(f"panel {place}\nn = 2", draw, height=height) for place, height in enumerate((2.0, 3.0, 2.5, 2.0))]
    drawing = draw_plot(Plot("edges", "Edges", "a caption", panels))
    for image in drawing.images:
        inked = pixels(image) < 200
        edges = [inked[:8].any(), inked[-8:].any(), inked[:, :8].any(), inked[:, -8:].any()]
        assert not any(edges)
        assert inked.any()


def test_the_same_plot_is_the_same_files(plots):
    one, two = (draw_plot(plots["budget_accuracy"]) for _ in range(2))
    assert (one.png, one.pdf, one.images) == (two.png, two.pdf, two.images)


def test_what_has_no_table_is_not_drawn_and_names_the_command_that_makes_it():
    plots, absent = all_plots(source_of(metrics_frame()).table, Tables())
    assert [plot.stem for plot in plots] == ["entropy_disagreement_gain"]
    assert absent == list(RECIPES)
    assert {recipe.maker for recipe in absent} < set(MAKERS.values())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_figure_with_one_of_its_tables_names_what_makes_the_others(analysed, recipe):
    tables = read_tables([analysed / name for name in ANALYSES])
    for stem in recipe.needs:
        alone = Tables()
        alone[stem] = tables[stem]
        texts = " ".join(" ".join(drawn_texts(panel)) for panel in recipe.plot(alone).panels).replace("\n", " ")
        others = [other for other in recipe.needs if other != stem]
        assert ("not given: " in texts) == (bool(others) and recipe.stem != "positions")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_table_without_rows_is_drawn_as_a_note(recipe):
    tables = Tables()
    tables |= {stem: [] for stem in recipe.needs}
    texts = [" ".join(drawn_texts(panel)).replace("\n", " ") for panel in recipe.plot(tables).panels]
    assert all("the table has no row" in text for text in texts)


def test_the_heat_map_is_the_jaccard_matrix(plots, analysed):
    panel = plots["masks"].panels[0]
    rows = read_tables([analysed / "replay"])["replay_jaccard"]
    names = [row["entry"] for row in rows]
    assert names == MASKS.split()
    assert drawn_texts(panel) == [f"{row[name]:.2f}" for row in rows for name in names]


def test_masks_that_keep_nothing_say_so():
    tables = Tables()
    tables["replay_jaccard"] = [
        {"entry": "a", "kept": 0, "a": None, "b": 0.0}, {"entry": "b", "kept": 4, "a": 0.0, "b": 1.0}
    ]  # fmt: skip
    bins = [{"position_low": i / 2, "position_high": (i + 1) / 2, "valid": 2 - 2 * i} for i in range(2)]
    tables["replay_positions"] = [
        part | {"entry": name, "kept": kept, "share": kept / 2 if part["valid"] else None}
        for name, kept in (("a", 0), ("b", 1))
        for part in bins
    ]
    counts = {"responses_covered": 0, "responses": 2, "prompts_covered": 0, "prompts": 0}
    tables["replay_selectors"] = [counts | {"entry": "a", "kept": 0}]
    head = {"rollout_id": 0, "prompts": 2}
    tables["replay_rollouts"] = [head | {"entry": "a", "prompts_effective": None}]
    jaccard, positions, coverage, rollouts = drawn_from(tables)["masks"].panels
    assert drawn_texts(jaccard) == ["none\nkept", "0.00", "0.00", "1.00"]
    assert drawn_texts(positions) == ["keeps no token"]
    assert drawn_texts(coverage) == ["keeps no token"]
    assert drawn_texts(rollouts) == ["one rollout only: there is no line over\nrollouts"]
    draw_plot(drawn_from(tables)["masks"])


def test_an_empty_q3_is_said():
    tables = Tables()
    row = {"k": 16, "gain": "absolute", "value": None, "low": None, "high": None, "q3_tokens": 0, "tokens": 0}
    row |= {"prompts": 0, "note": "Q3 is empty"}
    tables["within_q3"] = [row | {"quantity": name} for name in ("compatibility", "gap_bootstrap")]
    tables["within_q3_quarters"] = []
    assert [drawn_texts(panel) for panel in drawn_from(tables)["within_q3"].panels] == [["Q3 is empty"]] * 3


def test_reach_that_was_not_measured_is_said():
    tables = Tables()
    row = {"group": "all", "k": 16, "group_tokens": 9, "value": None, "low": None, "high": None, "tokens": 9}
    row |= {"prompts": 3, "note": "the file has no base_reach_t1"}
    tables["q3_reachability"] = [row | {"quantity": name} for name in ("reach_before", "gain_difference")]
    reach, gain = drawn_from(tables)["q3_reachability"].panels
    assert drawn_texts(reach) == ["the file has no base_reach_t1", "the file has no reach_t1"]
    assert drawn_texts(gain) == ["the file has no base_reach_t1"]


def test_one_seed_has_no_interval_and_a_note(plots):
    (panel,) = plots["budget_accuracy"].panels
    assert "Mean gain of the runs\nn = 1-3 seeds a point" in panel.title
    assert drawn_texts(panel) == ["one seed: no interval"]


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
    plots = drawn_from(tables)
    assert drawn_texts(plots["gap_forest"].panels[0]) == ["one prompt only"]
    assert drawn_texts(plots["buckets"].panels[0]) == ["constant: entropy"]
    assert drawn_texts(plots["support_definitions"].panels[1]) == ["the file has no D", "+0.5 *"]


def test_equal_gains_have_no_plane():
    plot = all_plots(source_of(metrics_frame("zero")).table, Tables())[0][0]
    assert [drawn_texts(panel) for panel in plot.panels] == [["all gains are equal (0)"]]


def test_counts_are_one_number_or_a_span():
    assert (counted([3, 3, None]), counted([1200, 3]), counted([])) == ("3", "3-1,200", "0")


def test_a_long_note_is_cut():
    assert noted("one two three four five", 9) == "one two\nthree …"
    assert noted("", 9) == "no number"


def test_the_palette_is_okabe_and_itos():
    assert {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"} <= set(OKABE_ITO)
