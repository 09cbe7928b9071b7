"""Support audit, within Q3, reachability, buckets, measures of agreement, budget plot and the writer of tables."""

import json

import numpy as np
import polars as pl
import pytest
from fixed_context.statistics.bootstrap import Clusters
from fixed_context.statistics.buckets import bucket_rows, residuals
from fixed_context.statistics.budget_plot import budget_rows, plot_budget, read_runs
from fixed_context.statistics.gain import gain_table
from fixed_context.statistics.opd_measures import from_lists, position_rows
from fixed_context.statistics.reachability import reachability_rows
from fixed_context.statistics.settings import Settings
from fixed_context.statistics.support_audit import agreement_rows, audit_rows
from fixed_context.statistics.tables import write_summary, write_tables
from fixed_context.statistics.unit_scores import unit_scores
from fixed_context.statistics.within_q3 import within_q3_rows

from .planted import planted_frame

SETTINGS = Settings(bootstrap=100)


@pytest.fixture(scope="module")
def table():
    return gain_table(planted_frame("learnable", 60, 20, seed=2), 16, other=["reach_t1", "after:reach_t1"], name="toy")


def test_the_audit_finds_a_planted_effect_under_every_definition_and_names_what_is_missing(table):
    rows = audit_rows(table, SETTINGS)
    found = [r for r in rows if r["quantity"] == "gap_raw" and r["value"] is not None]
    assert {(r["definition"], r["k"]) for r in found} >= {("mass", 8), ("mass", 16), ("mass", 32), ("jaccard", 16)}
    assert all(r["low"] > 0 for r in found)
    lacking = [r for r in rows if (r["definition"], r["k"]) == ("bhattacharyya", 8)]
    assert lacking and all(r["value"] is None and "CBC at K = 8" in r["note"] for r in lacking)
    both = agreement_rows(rows + audit_rows(table, SETTINGS))
    assert (
        next(r for r in both if r["definition"] == "mass" and r["k"] == 8 and r["quantity"] == "gap_raw")["above_0"]
        == 2
    )


def test_within_q3_support_separates_a_planted_effect():
    large = gain_table(planted_frame("learnable", 150, 40, seed=2, ks=()), 16)
    rows, quarters = within_q3_rows(large, SETTINGS)
    found = {(r["gain"], r["quantity"]): r for r in rows}
    assert found["absolute", "compatibility"]["low"] > 0 and found["winsorised", "gap_matched"]["low"] > 0
    means = [r["mean"] for r in quarters if r["gain"] == "absolute"]
    assert len(means) == 4 and means[0] < means[-1]


def test_reach_before_and_after_is_counted_by_quadrant(table):
    rows = {(r["group"], r["quantity"]): r for r in reachability_rows(table, SETTINGS)}
    frame = planted_frame("learnable", 60, 20, seed=2)
    assert rows["all", "reach_before"]["value"] == pytest.approx(frame["base_reach_t1"].mean())
    change = frame["reach_t1"].mean() - frame["base_reach_t1"].mean()
    assert rows["all", "reach_change"]["value"] == pytest.approx(change)
    assert sum(rows[g, "C"]["group_tokens"] for g in rows_groups(rows)) == len(table)
    without = reachability_rows(gain_table(frame.drop("base_reach_t1", "reach_t1"), 16), SETTINGS)
    assert any("no base_reach_t1" in r["note"] for r in without if r["quantity"] == "reach_before")


def rows_groups(rows):
    return {group for group, _ in rows} - {"all"}


def test_buckets_hold_all_tokens_once_and_residuals_know_nothing_of_the_controls(table):
    scores, gain = unit_scores(table), table.gain["absolute"]
    rows = bucket_rows(table, scores, gain, Clusters(table.prompt, 50))
    for score in ("entropy", "learnable"):
        mine = [r for r in rows if r["score"] == score]
        assert sum(r["tokens"] for r in mine) == len(table)
        weighted = sum(r["residual"] * r["tokens"] for r in mine)
        assert weighted == pytest.approx(0, abs=1e-8)
    left = residuals(gain, [scores.h, scores.d])
    assert abs(np.corrcoef(left, scores.h)[0, 1]) < 1e-10


def plain_measures(s_ids, s_logps, t_ids, t_logps):
    """One position, written out."""
    s, t = dict(zip(s_ids, s_logps, strict=True)), dict(zip(t_ids, t_logps, strict=True))
    shared = [v for v in s if v in t and v >= 0]
    z_s, z_t = sum(np.exp(s[v]) for v in shared), sum(np.exp(t[v]) for v in shared)
    terms = [np.exp(s[v]) / z_s * (np.log(np.exp(t[v]) / z_t) - np.log(np.exp(s[v]) / z_s)) for v in shared]
    return len(shared) / len([v for v in s if v >= 0]), z_s, np.mean(terms) if shared else np.nan


def test_overlap_measures_agree_with_a_plain_form_position_by_position():
    rng = np.random.default_rng(0)
    n, k = 50, 5
    ids = [np.stack([rng.choice(8, k, replace=False) for _ in range(n)]) for _ in range(2)]
    logps = [np.log(rng.dirichlet(np.ones(8), n)[:, :k]) for _ in range(2)]
    ids[1][0], ids[0][1, 3:] = np.arange(100, 100 + k), -1
    found = from_lists(ids[0], logps[0], ids[1], logps[1])
    for i in range(n):
        ratio, mass, advantage = plain_measures(ids[0][i], logps[0][i], ids[1][i], logps[1][i])
        assert found["Coverlap"][i] == pytest.approx(ratio) and found["overlap_mass"][i] == pytest.approx(mass)
        assert found["overlap_advantage"][i] == pytest.approx(advantage, nan_ok=True)
    assert found["Coverlap"][0] == 0 and np.isnan(found["overlap_advantage"][0])


def test_equal_models_have_full_overlap_and_no_advantage():
    ids = np.arange(12).reshape(3, 4)
    logps = np.log(np.full((3, 4), 0.2))
    found = from_lists(ids, logps, ids, logps)
    assert (found["Coverlap"] == 1).all()
    np.testing.assert_allclose(found["overlap_advantage"], 0, atol=1e-12)


def test_position_rows_hold_every_known_token_once():
    tok_pos, clusters = np.tile(np.arange(40), 10), Clusters(np.repeat(np.arange(10), 40), 50)
    columns = {"Hs": np.ones(400), "Ht": np.full(400, 1.5), "Coverlap": np.where(tok_pos == 3, np.nan, 0.5)}
    rows = position_rows(columns, tok_pos, clusters)
    by_name = {n: [r for r in rows if r["measure"] == n] for n in ("overlap_ratio", "entropy_gap")}
    assert sum(r["tokens"] for r in by_name["overlap_ratio"]) == 390
    assert all(r["mean"] == 0.5 for r in by_name["entropy_gap"])


def test_one_function_writes_csv_markdown_and_latex(tmp_path):
    rows = [
        {"name": "a_b|c", "value": 0.123456789, "n": 1234, "none": None},
        {"name": "d", "value": float("nan"), "n": 5},
    ]
    write_tables(tmp_path, "t", rows, "Title")
    read = pl.read_csv(tmp_path / "t.csv")
    assert read["value"].to_list() == [0.123456789, None] and read.columns == ["name", "value", "n", "none"]
    text = (tmp_path / "t.md").read_text()
    assert "a_b\\|c" in text and "| 0.1235 | 1,234 |" in text
    latex = (tmp_path / "t.tex").read_text()
    assert r"a\_b|c & 0.1235 & 1,234 &  \\" in latex and latex.count("\\\\\n") == 3
    write_tables(tmp_path, "empty", [], "Nothing")
    assert "no rows" in (tmp_path / "empty.md").read_text()


def test_a_summary_is_json_without_nan(tmp_path):
    path = write_summary(tmp_path / "s.json", {"a": float("nan"), "b": np.float32(0.5), "c": (1, np.arange(2))})
    assert json.loads(path.read_text()) == {"a": None, "b": 0.5, "c": [1, [0, 1]]}


def test_budgets_have_t_intervals_over_seeds_and_one_seed_has_none(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("method,ratio,gain,seed\na,0.1,1,0\na,0.1,2,1\na,0.1,3,2\nb,0.2,5,0\n")
    runs, used = read_runs(path)
    rows = budget_rows(runs)
    assert used["budget"] == "ratio" and [r["mean"] for r in rows] == [2, 5]
    assert rows[0]["high"] - 2 == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5) and rows[1]["low"] is None
    paths = plot_budget(runs, rows, used, "t", tmp_path)
    assert [p.suffix for p in paths] == [".png", ".pdf"] and all(p.stat().st_size > 2000 for p in paths)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method,gain\na,1\n", "--budget-col"),
        ("method,ratio,gain\na,0.1,1\na,0.1,2\n", "more than one row"),
        ("method,ratio,gain\na,0.1,x\n", "1 of 1 rows have no number in gain"),
    ],
)
def test_a_table_of_runs_that_cannot_be_plotted_says_why(tmp_path, text, message):
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_runs(tmp_path / "runs.csv")
