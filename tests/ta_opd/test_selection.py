import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ta_opd.selection import (
    Ranking,
    budget,
    normalise,
    random_keys,
    random_keys_released,
    select_ranked,
    select_top,
)

from . import reference

seeds = st.integers(0, 2**32 - 1)
few_values = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0])
lengths = st.lists(st.integers(0, 6), min_size=1, max_size=8)


@given(
    values=st.lists(st.floats(0, 100, width=32), min_size=1, max_size=60),
    low=st.sampled_from([0.0, 0.05, 0.3]),
    high=st.sampled_from([0.5, 0.95, 1.0]),
)
def test_quantile_normalisation_matches_equation_11_and_stays_in_0_to_1(values, low, high):
    spread = reference.quantile(values, high) - reference.quantile(values, low)
    result = normalise(np.array(values, np.float32), None, "batch_quantile", low, high)
    assert result.values.dtype == np.float32 and result.values.min() >= 0 and result.values.max() <= 1
    if spread > 1e-3:
        assert not result.degenerate
        assert result.values.tolist() == pytest.approx(
            reference.normalise(values, low, high), abs=1e-5 * (1 + 100 / spread)
        )
    if spread == 0:
        assert result.degenerate and not result.values.any()


def test_other_normalisations_take_the_extremes_or_the_maximum():
    scores = np.array([2.0, 4.0, 6.0, np.nan], np.float32)
    np.testing.assert_allclose(normalise(scores, mode="batch_minmax").values, [0, 0.5, 1, np.nan])
    np.testing.assert_allclose(normalise(scores, mode="none").values, [1 / 3, 2 / 3, 1, np.nan], rtol=1e-6)


def test_scores_without_spread_are_degenerate_zeros_and_the_missing_stay_missing():
    for mode in ("batch_quantile", "batch_minmax"):
        result = normalise(np.array([3.0, np.nan, 3.0, 3.0], np.float32), mode=mode)
        assert result.degenerate
        np.testing.assert_array_equal(result.values, [0, np.nan, 0, 0])
    for scores in (np.array([], np.float32), np.full(3, np.nan, np.float32)):
        result = normalise(scores)
        assert result.degenerate and len(result.values) == len(scores) and np.isnan(result.values).all()


def test_quantiles_are_taken_over_the_population_and_applied_to_all():
    scores = np.array([0.0, 10.0, 20.0, 1000.0], np.float32)
    result = normalise(scores, np.array([True, True, True, False]), "batch_quantile", 0.0, 1.0)
    np.testing.assert_allclose(result.values, [0, 0.5, 1, 1])


def test_a_wrong_normalisation_is_refused_by_name_and_range():
    scores = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="--opd-metric-normalization 'rank' is not one of batch_quantile"):
        normalise(scores, mode="rank")
    for low, high in ((0.5, 0.5), (-0.1, 0.5), (0.1, 1.1), (0.9, 0.1)):
        with pytest.raises(ValueError, match="--opd-metric-q-low"):
            normalise(scores, None, "batch_quantile", low, high)


@given(percent=st.integers(1, 100), count=st.integers(0, 10**7))
def test_the_budget_is_the_exact_ceiling_in_decimal(percent, count):
    expected = -(-percent * count // 100)
    assert budget(percent / 100, count) == expected == reference.ceil_budget(percent / 100, count)
    assert budget(percent / 100, count, round_down=True) == min(count, max(1, percent * count // 100))


def test_budgets_that_floating_point_gets_wrong():
    assert budget(0.07, 100) == 7 and 0.07 * 100 > 7
    assert budget(0.29, 100, round_down=True) == 29 and 0.29 * 100 < 29
    assert budget(1e-05, 3) == 1 and budget(1.0, 7) == 7 and budget(1, 7) == 7
    assert budget(np.float64(0.1), 30) == budget(np.float32(0.1), 30) == 3


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.0001, float("nan"), float("inf")])
def test_a_ratio_outside_its_range_is_refused(ratio):
    with pytest.raises(ValueError, match=rf"--opd-budget-ratio {ratio} is outside 0\.\.1 \(0 excluded\)"):
        budget(ratio, 5)


@given(keys=st.lists(st.tuples(few_values, few_values), max_size=40), n=st.integers(-1, 45))
def test_the_top_n_are_those_of_a_sort_by_keys_then_position(keys, n):
    columns = [np.array([key[i] for key in keys], np.float32) for i in (0, 1)]
    expected = sorted(range(len(keys)), key=lambda i: (-keys[i][0], -keys[i][1], i))[: max(n, 0)]
    assert set(np.flatnonzero(select_top(columns, n))) == set(expected)


@given(lengths=lengths, n=st.integers(0, 30), least=st.integers(0, 4), data=st.data())
def test_ranked_selection_swaps_in_the_minimum_like_the_reference(lengths, n, least, data):
    total = sum(lengths)
    keys = data.draw(st.lists(st.tuples(few_values, few_values), min_size=total, max_size=total))
    eligible = data.draw(st.lists(st.booleans(), min_size=total, max_size=total))
    sample = [b for b, length in enumerate(lengths) for _ in range(length)]
    columns = tuple(np.array([key[i] for key in keys], np.float32) for i in (0, 1))
    ranking = Ranking(columns, np.array(eligible, bool))
    keep = select_ranked(ranking, n, np.array(sample, np.int64), least)
    assert set(np.flatnonzero(keep)) == reference.select(keys, eligible, sample, n, least)
    assert keep.sum() == min(n, sum(eligible))


@given(lengths=lengths, least=st.integers(0, 3), seed=seeds, n=st.integers(0, 30))
def test_whole_number_keys_are_ranked_without_negating_them(lengths, least, seed, n):
    sample = np.repeat(np.arange(len(lengths)), lengths)
    keys = random_keys(seed, 0, len(sample))
    keep = select_ranked(Ranking((keys,), np.ones(len(sample), bool)), n, sample, least)
    expected = reference.select([(int(k),) for k in keys], [True] * len(sample), sample.tolist(), n, least)
    assert set(np.flatnonzero(keep)) == expected


def test_the_minimum_is_filled_turn_by_turn_and_by_rank_within_a_turn():
    sample = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    keys = (np.array([9, 8, 7, 6, 2, 1, 4, 3], np.float32),)
    everyone = np.ones(8, bool)

    def kept(n, least):
        return np.flatnonzero(select_ranked(Ranking(keys, everyone), n, sample, least)).tolist()

    assert kept(4, 0) == [0, 1, 2, 3]
    assert kept(2, 1) == [0, 6]
    assert kept(4, 1) == [0, 1, 4, 6]
    assert kept(5, 2) == [0, 1, 4, 6, 7]
    assert kept(8, 9) == list(range(8))


def test_random_keys_depend_on_seed_rollout_and_count_only():
    draw = random_keys(42, 3, 1000)
    np.testing.assert_array_equal(draw, random_keys(42, 3, 1000))
    np.testing.assert_array_equal(draw[:10], random_keys(42, 3, 10))
    assert len(np.unique(draw)) == 1000
    assert not np.array_equal(draw, random_keys(42, 4, 1000)) and not np.array_equal(draw, random_keys(43, 3, 1000))
    assert not np.array_equal(random_keys(3, 42, 1000), draw)
    assert len(random_keys(-1, 0, 5)) == 5 and len(random_keys(1, 0, 0)) == 0


def test_random_keys_are_drawn_the_same_on_every_machine():
    assert random_keys(42, 0, 2).tolist() == [1587852024645073290, 2611271723512893552]


def test_random_selection_is_uniform():
    hits = sum(select_top([random_keys(0, rollout, 20)], 5).astype(int) for rollout in range(2000))
    assert abs(hits - 500).max() < 5 * (2000 * 0.25 * 0.75) ** 0.5


@given(seed=st.integers(0, 1000), rollout=st.integers(0, 1000), count=st.integers(0, 50), data=st.data())
def test_released_random_keeps_the_first_of_the_shuffle(seed, rollout, count, data):
    n = data.draw(st.integers(0, count))
    order = list(range(count))
    random.Random(seed + rollout).shuffle(order)
    kept = select_top([random_keys_released(seed, rollout, count)], n)
    assert set(np.flatnonzero(kept)) == set(order[:n])
