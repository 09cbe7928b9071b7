"""Matches and balance against numbers worked out by hand."""

import numpy as np
import pytest
from fixed_context.statistics import matching
from fixed_context.statistics.bootstrap import Clusters
from fixed_context.statistics.matching import adjusted_difference, balance, matched_difference, nearest_neighbours

TREATED = np.array([True, True, True, False, False, False])
CONTROL = ~TREATED
X = np.array([1.0, 2.0, 9.0, 1.1, 2.4, 2.6])
Y = np.array([5.0, 7.0, 100.0, 1.0, 2.0, 50.0])
PROMPT = np.array([0, 1, 2, 3, 4, 5])


def test_the_nearest_control_within_the_caliper_is_taken_and_the_far_one_dropped(monkeypatch):
    monkeypatch.setattr(matching, "LEAST_MATCHED", 2)
    match = nearest_neighbours({"x": X}, TREATED, CONTROL, caliper=0.25)
    np.testing.assert_array_equal(match.weight, [1, 1, 0, 1, 1, 0])
    assert match.matched == 2
    np.testing.assert_allclose(match.distance, np.array([0.1, 0.4]) / X.std())
    assert matched_difference(match, Y, Clusters(PROMPT, 100)).value == pytest.approx(6 - 1.5)


def test_a_handful_of_pairs_is_no_number_and_says_how_many_there_are():
    x = np.r_[np.linspace(0, 1, 100), np.linspace(0.9, 20, 100)]
    treated, prompt, values = np.arange(200) < 100, np.arange(200) % 20, np.arange(200.0)
    few, more = (nearest_neighbours({"x": x}, treated, ~treated, caliper=c) for c in (0.002, 0.1))
    assert 0 < few.matched < 30 < more.matched < 100
    for found in (
        matched_difference(few, values, Clusters(prompt, 50)),
        adjusted_difference(few, values, {"x": x}, Clusters(prompt, 50)),
    ):
        assert (found.value, found.low, found.p) == (None, None, None)
        assert f"{few.matched} of 100 high-support tokens have a partner" in found.note
    found = matched_difference(more, values, Clusters(prompt, 50))
    assert found.value is not None and ("of 100" in found.note) == (more.matched < 50)


def test_a_control_that_serves_twice_weighs_twice():
    match = nearest_neighbours(
        {"x": np.array([1.0, 1.2, 1.1, 5.0])}, np.array([1, 1, 0, 0], bool), np.array([0, 0, 1, 1], bool)
    )
    np.testing.assert_array_equal(match.weight, [1, 1, 2, 0])
    rows = balance(match, {"x": np.array([1.0, 1.2, 1.1, 5.0])})
    assert rows[0]["partners_effective"] == 1 and rows[0]["smd_after"] == pytest.approx(0)
    spread = np.sqrt((0.01 + 1.95**2) / 2)
    assert rows[0]["smd_before"] == pytest.approx((1.1 - 3.05) / spread)


def test_regression_adjustment_takes_out_what_matching_left():
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(0.6, 1, 200), rng.normal(0, 1, 200)]
    treated = np.arange(400) < 200
    y = 2 * x + 0.5 * treated
    match, clusters = nearest_neighbours({"x": x}, treated, ~treated, caliper=1.0), Clusters(np.arange(400) // 4, 100)
    adjusted = adjusted_difference(match, y, {"x": x}, clusters)
    assert adjusted.value == pytest.approx(0.5, abs=1e-9)


def test_no_partner_is_an_absent_number():
    match = nearest_neighbours({"x": np.array([0.0, 100.0])}, np.array([True, False]), np.array([False, True]), 0.1)
    found = matched_difference(match, np.array([1.0, 2.0]), Clusters(np.arange(2), 10))
    assert found.value is None and "caliper" in found.note


def test_a_caliper_of_zero_is_refused():
    with pytest.raises(ValueError, match="--caliper 0"):
        nearest_neighbours({"x": X}, TREATED, CONTROL, caliper=0)
