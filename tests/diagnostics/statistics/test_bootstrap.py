"""Cluster sums against rows that are really drawn again, coverage by simulation, corrections against statsmodels."""

import numpy as np
import pytest
from fixed_context.statistics.bootstrap import Clusters, adjusted_p, correct, estimate, estimate_t
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests


def drawn_rows(clusters, replicate):
    """Row numbers of one replicate: every row of a prompt as often as the prompt was drawn."""
    times = clusters.weights[replicate].astype(int)
    return np.concatenate([np.repeat(np.flatnonzero(clusters.codes == g), n) for g, n in enumerate(times)])


def test_a_replicate_is_the_mean_over_rows_that_are_drawn_again_by_prompt():
    rng = np.random.default_rng(0)
    prompt, values, weight = rng.integers(0, 7, 60), rng.normal(size=60), rng.random(60)
    clusters = Clusters(prompt, 30, seed=3)
    sums = clusters.draws(clusters.sums(np.stack([weight * values, weight], axis=1)))
    for r in range(30):
        rows = drawn_rows(clusters, r)
        assert sums[r, 0] / sums[r, 1] == pytest.approx(np.average(values[rows], weights=weight[rows]))


def test_a_difference_is_between_weighted_means_and_pairs_its_replicates():
    values, plus, minus = np.array([1.0, 2.0, 5.0, 9.0]), np.array([1.0, 1, 0, 0]), np.array([0, 0, 1.0, 3.0])
    found = Clusters(np.arange(4), 200).difference(values, plus, minus)
    assert found.value == pytest.approx(1.5 - 8.0)
    same = Clusters(np.arange(40) % 10, 200).difference(np.tile(values, 10), np.tile(plus, 10), np.tile(plus, 10))
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_one_prompt_has_a_value_and_no_interval_and_says_so():
    found = Clusters(np.zeros(5), 100).mean(np.arange(5.0))
    assert (found.value, found.low, found.p) == (2.0, None, None)
    assert "one prompt" in found.note


def test_below_five_prompts_there_is_a_value_and_no_interval():
    for prompts in (2, 4):
        found = Clusters(np.arange(prompts), 100).mean(np.arange(float(prompts)))
        assert found.value is not None and (found.low, found.se, found.p) == (None, None, None)
        assert f"{prompts} prompts, below 5" in found.note
    assert Clusters(np.arange(5), 100).mean(np.arange(5.0)).p is not None


@given(st.integers(0, 10**6), st.integers(5, 40), st.floats(-1, 1), st.floats(0.2, 3))
@settings(max_examples=200, deadline=None)
def test_p_is_below_a_twentieth_exactly_where_the_interval_leaves_0_out(seed, prompts, shift, tail):
    rng = np.random.default_rng(seed)
    values = shift + np.sign(rng.normal(size=prompts)) * np.abs(rng.normal(size=prompts)) ** tail
    clusters = Clusters(np.arange(prompts), 999, seed)
    drawn = clusters.draws(values) / prompts
    se = values.std(ddof=1) / np.sqrt(prompts)
    for found in (
        estimate(float(values.mean()), drawn, prompts, prompts),
        estimate_t(float(values.mean()), float(se), (drawn - values.mean()) / se, prompts, prompts),
    ):
        outside = not found.low <= 0 <= found.high
        # p counts one replicate more than the interval does, which few prompts, whose tails are thin, feel more.
        assert outside == (found.p < 0.05) or 0.04 < found.p < (0.1 if prompts < 10 else 0.06), found


def test_where_no_replicate_crosses_0_p_is_that_of_t_and_no_larger_than_they_show():
    values = 100 + np.random.default_rng(0).normal(size=50)
    found = Clusters(np.arange(50), 100).mean(values)
    assert found.p == pytest.approx(2 * stats.t.sf(found.value / found.se, 49)) and found.p < 1e-12


def test_fewer_than_ten_prompts_are_called_unreliable_and_ten_are_not():
    assert "unreliable" in Clusters(np.arange(9), 100).mean(np.arange(9.0)).note
    assert Clusters(np.arange(10), 100).mean(np.arange(10.0)).note == ""


def test_an_empty_group_is_an_absent_number_not_zero():
    clusters = Clusters(np.arange(20), 50)
    found = clusters.difference(np.ones(20), np.ones(20), np.zeros(20))
    assert found.value is None and "no token" in found.note


def test_a_group_that_few_prompts_have_gets_no_interval():
    group = np.r_[1.0, np.zeros(29)]
    found = Clusters(np.arange(30), 200).difference(np.arange(30.0), group, 1 - group)
    assert found.value is not None and found.low is None and "not defined" in found.note


def test_no_token_is_an_error():
    with pytest.raises(ValueError, match="no token"):
        Clusters(np.array([]))


def test_gaps_that_are_exactly_zero_have_no_p_value():
    assert Clusters(np.arange(12), 100).mean(np.zeros(12)).p is None


def test_corrections_agree_with_statsmodels():
    p = [0.04, 0.01, 0.01, 0.9, 1e-9, 0.03]
    holm, bh = adjusted_p(list(p))
    np.testing.assert_allclose(holm, multipletests(p, method="holm")[1], rtol=1e-9)
    np.testing.assert_allclose(bh, multipletests(p, method="fdr_bh")[1], rtol=1e-9)


def test_a_row_without_a_p_value_takes_no_part_in_the_correction():
    rows = [{"p": 0.02}, {"p": None}, {"p": 0.04}]
    correct(rows)
    assert [row["p_holm"] for row in rows] == [pytest.approx(0.04), None, pytest.approx(0.04)]
    assert {row["tests"] for row in rows} == {2}


def test_an_interval_of_few_prompts_is_wider_than_the_plain_percentile():
    values = np.random.default_rng(0).normal(size=12)
    clusters = Clusters(np.arange(12), 4000)
    found = clusters.mean(values)
    plain = np.quantile(clusters.draws(values) / 12, [0.025, 0.975])
    assert found.low < plain[0] and found.high > plain[1]
