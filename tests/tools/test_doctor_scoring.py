"""What the doctor reads off log-probs, against distributions that are known.

Axes: T positions, V vocabulary, K entries of a list.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from doctor_checks import scoring

SEEDS = st.integers(0, 2**32 - 1)


def distributions(seed, positions=40, vocabulary=30, temperature=1.0):
    """log-probs [T, V]"""
    logits = 2 * np.random.default_rng(seed).standard_normal((positions, vocabulary)) / temperature
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def top(dense, k):
    ids = np.argsort(-dense, axis=1)[:, :k]
    return ids, np.take_along_axis(dense, ids, 1)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(0.2, 5.0))
def test_the_temperature_of_scores_is_found_from_lists(seed, temperature):
    ours = [
        dict(zip(*map(np.ndarray.tolist, row), strict=True)) for row in zip(*top(distributions(seed), 8), strict=True)
    ]
    theirs = distributions(seed, temperature=temperature)
    rows = [dict(zip(*map(np.ndarray.tolist, row), strict=True)) for row in zip(*top(theirs, 6), strict=True)]
    found = scoring.inverse_temperature(list(zip(ours, rows, strict=True)))
    assert found == pytest.approx(1 / temperature, rel=1e-6)


def test_no_common_tokens_give_no_temperature():
    assert scoring.inverse_temperature([]) is None
    assert scoring.inverse_temperature([({1: -1.0, 2: -2.0}, {3: -1.0, 2: -2.0})]) is None
    assert scoring.inverse_temperature([({1: -1.0, 2: -math.inf}, {1: -1.0, 2: -2.0})]) is None


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.sampled_from([-2, -1, 0, 1, 2]), st.floats(0, 0.02))
def test_a_shift_of_numbers_is_found_under_bf16_noise(seed, shift, noise):
    random = np.random.default_rng(seed)
    samples = []
    for _ in range(4):
        right = -3 * random.exponential(size=40)
        samples.append((right, np.roll(right, shift) + noise * random.standard_normal(40)))
    assert scoring.shift_of_numbers(samples) == shift


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_numbers_that_have_nothing_to_do_with_each_other_are_no_shift(seed):
    random = np.random.default_rng(seed)
    assert scoring.shift_of_numbers([(-random.exponential(size=200), -random.exponential(size=200))]) == 0


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.sampled_from([-2, -1, 1, 2]), st.integers(1, 30))
def test_lists_are_aligned_or_their_shift_is_named(seed, shift, k):
    dense = distributions(seed)
    random = np.random.default_rng(seed)
    tokens = np.array([random.choice(30, p=np.exp(row) / np.exp(row).sum()) for row in dense])
    own = dense[np.arange(40), tokens]
    ids, values = top(dense, k)
    right = scoring.alignment(tokens, own, ids, values, full=k == 30)
    assert (right.wrong, right.shift) == (0, 0)
    assert right.listed == pytest.approx((ids == tokens[:, None]).any(1).mean())
    moved = scoring.alignment(tokens, own, np.roll(ids, shift, 0), np.roll(values, shift, 0), full=k == 30)
    assert moved.wrong > 0
    if right.listed > 0.6:
        assert moved.shift == shift


def test_a_list_that_hides_a_likelier_token_is_wrong():
    found = scoring.alignment(np.array([3]), np.array([-0.5]), np.array([[1, 2]]), np.array([[-1.5, -2.0]]), full=False)
    assert found.wrong == 1 and found.listed == 0
    found = scoring.alignment(np.array([3]), np.array([-4.0]), np.array([[1, 2]]), np.array([[-1.5, -2.0]]), full=False)
    assert found.wrong == 0
    found = scoring.alignment(np.array([3]), np.array([-4.0]), np.array([[1, 2]]), np.array([[-1.5, -2.0]]), full=True)
    assert found.wrong == 1


@pytest.mark.parametrize("missing", [np.nan, -np.inf])
def test_a_missing_log_prob_is_an_infinite_difference_and_never_a_zero(missing):
    found = scoring.difference(np.array([-1.0, -2.0]), np.array([-1.0, missing]))
    assert found.size == found.greatest == math.inf


def test_the_entropy_of_a_uniform_model_is_the_whole_of_log_v():
    assert scoring.share_of_uniform(np.full(10, -math.log(500)), 500) == pytest.approx(1)
    assert scoring.share_of_uniform(np.full(10, -0.1), 500) < 0.05
