"""What was planted is found; what was not is not; what is confounded is corrected."""

import numpy as np
import pytest
from fixed_context.statistics.analysis import analyse, summary, write_analysis
from fixed_context.statistics.gain import gain_table
from fixed_context.statistics.settings import Settings
from fixed_context.statistics.unit_scores import unit_scores

from .planted import planted_frame

SETTINGS = Settings(bootstrap=300)
SIZE = 0.3


@pytest.fixture(scope="module")
def analyses():
    found = {}

    def get(effect):
        if effect not in found:
            frame = planted_frame(effect, prompts=120, tokens=30, seed=4, size=SIZE)
            found[effect] = analyse(gain_table(frame, 16, settings=SETTINGS, other=["KLr"]), SETTINGS)
        return found[effect]

    return get


def row(rows, **wanted):
    matches = [r for r in rows if all(r.get(k) == v for k, v in wanted.items())]
    assert len(matches) == 1, (wanted, len(matches))
    return matches[0]


def gap_raw(analysis, k=16, gain="absolute"):
    return row(analysis.regression, gain=gain, k=k, model="split", term="gap_raw")


def holds(found, value):
    return found["low"] <= value <= found["high"]


@pytest.mark.parametrize("k", [8, 16, 32])
def test_a_learnable_effect_is_found_at_every_k_with_its_size(analyses, k):
    found = gap_raw(analyses("learnable"), k)
    assert holds(found, SIZE) and found["low"] > 0 and found["p_holm"] < 0.001
    terms = {
        t: row(analyses("learnable").regression, gain="absolute", k=k, term=t) for t in ("learnable", "incompatible")
    }
    assert terms["learnable"]["low"] > 0 and holds(terms["incompatible"], 0)


def test_no_effect_is_not_found(analyses):
    analysis = analyses("none")
    assert holds(gap_raw(analysis), 0)
    assert all(holds(r, 0) for r in analysis.regression if r["gain"] == "absolute" and r["term"] == "gap_raw")
    for method in ("bootstrap", "matched", "matched_adjusted"):
        found = row(analysis.q3, gain="absolute", k=16, method=method)
        assert found["p_holm"] > 0.05


def test_confounding_by_position_shows_in_the_plain_gap_and_is_gone_when_matched_and_regressed(analyses):
    analysis = analyses("position")
    plain, matched = (row(analysis.q3, gain="absolute", k=16, method=m) for m in ("bootstrap", "matched_adjusted"))
    assert plain["difference_low"] > 0.05
    assert matched["difference_low"] <= 0 <= matched["difference_high"]
    assert holds(gap_raw(analysis), 0)
    balance = row(analysis.balance, k=16, control="position")
    assert abs(balance["smd_before"]) > 0.8 and abs(balance["smd_after"]) < 0.1


def test_a_real_effect_stays_when_matched(analyses):
    found = row(analyses("learnable").q3, gain="absolute", k=16, method="matched")
    assert found["difference_low"] > 0.03


def test_a_uniform_decrease_gives_d_a_coefficient_that_is_gone_with_kl_before_held(analyses):
    rows = analyses("shrinkage").reversion
    for basis in ("line", "curve"):
        assert row(rows, check="held", quantity="learnable", basis=basis)["observed"] > 0.3
        found = row(rows, check="held", quantity="gap_raw", basis=basis)
        assert holds(found, 0) and abs(found["value"]) < 0.03
    assert row(rows, check="slopes", quantity="kept")["value"] == pytest.approx(0.7, abs=0.01)


def test_mean_reversion_shows_as_reversion_and_leaves_no_gap(analyses):
    rows = analyses("reversion").reversion
    slope, reversion = (row(rows, check="slopes", quantity=q) for q in ("slope", "reversion"))
    assert slope["low"] > 0.05 and reversion["value"] > 0.05
    assert holds(row(rows, check="held", quantity="gap_raw", basis="curve"), 0)


def test_a_learnable_effect_stays_with_its_size_when_kl_before_is_held(analyses):
    rows = analyses("learnable").reversion
    for basis in ("line", "curve"):
        found = row(rows, check="held", quantity="gap_raw", basis=basis)
        assert found["low"] > 0.2 and holds(found, SIZE)
        assert row(rows, check="held", quantity="compatibility", basis=basis)["low"] > 0


@pytest.mark.parametrize("effect", ["disagreement", "learnable", "kl_before"])
def test_holding_kl_before_brings_no_gap_where_d_is_another_number_and_keeps_the_one_that_is_there(effect):
    truth = SIZE if effect == "learnable" else 0
    frame = planted_frame(effect, prompts=600, tokens=20, seed=8, ks=(), size=SIZE, loose=0.6)
    table, settings = gain_table(frame, 16), Settings(bootstrap=200)
    analysis = analyse(table, settings)
    assert np.corrcoef(table.before, table.disagreement[16])[0, 1] < 0.9
    rows = [row(analysis.reversion, check="held", quantity="gap_raw", basis=b) for b in ("line", "curve")]
    assert all(abs(found["value"] - truth) < 0.025 and holds(found, truth) for found in rows), rows


def test_d_of_another_student_escapes_mean_reversion_and_keeps_a_learnable_effect():
    rng = np.random.default_rng(9)
    for effect, found_there in (("reversion", False), ("learnable", True)):
        frame = planted_frame(effect, prompts=120, tokens=30, seed=4, ks=())
        table = gain_table(frame, 16, settings=SETTINGS)
        other = planted_stable(4, 120, 30) * np.exp(0.4 * rng.normal(size=len(table)))
        rows = analyse(table, SETTINGS, independent=other).reversion
        mine = row(rows, check="held", quantity="learnable", basis="line")["observed"]
        theirs = row(rows, check="independent", quantity="learnable", measure="D of another student")
        assert (theirs["low"] > 0) == found_there, (effect, mine, theirs)


def planted_stable(seed, prompts, tokens):
    """What planted_frame draws as the part of KL before that another student shares."""
    rng = np.random.default_rng(seed)
    n = prompts * tokens
    by_prompt = rng.normal(size=(prompts, 3))[np.repeat(np.arange(prompts), tokens)]
    rng.normal(size=n)
    return np.exp(-0.7 + 0.3 * by_prompt[:, 1] + 0.7 * rng.normal(size=n))


def test_placebos_are_nothing_where_nothing_was_planted(analyses):
    rows = analyses("learnable").placebo
    for name in ("token_hash", "shuffled_compatibility"):
        assert row(rows, placebo=name)["p"] > 0.01
    assert row(rows, placebo="shuffled_gap")["p"] < 0.01
    assert row(analyses("none").placebo, placebo="shuffled_gap")["p"] > 0.05


def test_the_same_checkpoint_twice_passes_the_null_check_and_another_does_not(analyses):
    table = gain_table(planted_frame("learnable", 20, 10), 16)
    same, other = gain_table(planted_frame("zero", 20, 10), 16), table
    assert analyse(table, Settings(bootstrap=20), null=same).null.passed
    assert not analyse(table, Settings(bootstrap=20), null=other).null.passed


def test_equal_gains_leave_rows_that_say_why_and_no_number(analyses):
    analysis = analyses("zero")
    for rows in (analysis.regression, analysis.q3):
        assert rows and all("all gains are equal" in r["note"] for r in rows if r["gain"] != "relative" or r["note"])
    assert all(r.get("beta") is None for r in analysis.regression)
    assert "all gains are equal" in analysis.reversion[0]["note"]


def test_an_empty_q3_is_a_row_that_says_so():
    frame = planted_frame("learnable", 20, 20, ks=())
    table = gain_table(frame.with_columns(base_KLf_union=frame["base_Hs"]), 16)
    assert not unit_scores(table).in_q3.any()
    rows = analyse(table, Settings(bootstrap=50)).q3
    assert all("Q3 is empty" in r["note"] and r["difference"] is None for r in rows)


def test_one_prompt_has_no_interval_anywhere():
    analysis = analyse(gain_table(planted_frame("learnable", 1, 60, ks=()), 16), Settings(bootstrap=50))
    for rows in (analysis.gains, analysis.regression, analysis.q3, analysis.buckets, analysis.reversion):
        for r in rows:
            assert all(r[k] is None for k in r if k.endswith(("low", "high")) and not k.startswith(("score", "tokens")))
    assert "one prompt" in " ".join(analysis.notes)


def test_every_table_and_the_summary_are_written(analyses, tmp_path):
    analysis = analyses("learnable")
    paths = write_analysis(analysis, tmp_path)
    names = {path.name for path in paths}
    assert {"regression_summary.csv", "q3_bootstrap_matching_summary.csv", "summary.json"} <= names
    assert all(path.stat().st_size for path in paths)
    told = summary(analysis)
    assert told["tokens"] == 3600 and told["prompts"] == 120 and told["ks"] == [8, 16, 32]
