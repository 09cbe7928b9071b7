import numpy as np
import pytest
from local_engine.statistics import cluster_bootstrap


def test_the_mean_counts_tokens_not_prompts():
    interval = cluster_bootstrap(np.array([1.0, 1.0, 1.0, 5.0]), np.array([0, 0, 0, 1]), seed=0)
    assert interval.mean == pytest.approx(2.0)


def test_the_same_seed_gives_the_same_interval():
    values, cluster = np.random.default_rng(0).normal(size=200), np.repeat(np.arange(20), 10)
    assert cluster_bootstrap(values, cluster, seed=3) == cluster_bootstrap(values, cluster, seed=3)


def test_tokens_that_agree_within_a_prompt_widen_the_interval_as_fewer_prompts_would():
    generator = np.random.default_rng(1)
    per_prompt = generator.normal(size=50)
    values, cluster = np.repeat(per_prompt, 40), np.repeat(np.arange(50), 40)
    interval = cluster_bootstrap(values, cluster, seed=0)
    expected = 2 * 1.96 * per_prompt.std() / np.sqrt(50)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.15)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(2)
    hits = 0
    for trial in range(200):
        prompts = generator.normal(size=40)
        values = (prompts[:, None] + generator.normal(size=(40, 5))).ravel()
        interval = cluster_bootstrap(values, np.repeat(np.arange(40), 5), seed=trial, replicates=400)
        hits += interval.low <= 0 <= interval.high
    assert 175 <= hits <= 199


def test_one_prompt_gives_no_interval():
    interval = cluster_bootstrap(np.array([1.0, 3.0]), np.array([7, 7]), seed=0)
    assert (interval.low, interval.mean, interval.high) == (None, 2.0, None)


def test_runs_that_differ_widen_the_interval_and_equal_runs_do_not():
    values, cluster = np.random.default_rng(0).normal(size=400), np.repeat(np.arange(40), 10)
    one = cluster_bootstrap(values, cluster, seed=0)
    same = cluster_bootstrap(np.stack([values] * 3), cluster, seed=0)
    differing = cluster_bootstrap(np.stack([values - 1, values, values + 1]), cluster, seed=0)
    assert same.mean == pytest.approx(one.mean) == pytest.approx(differing.mean)
    assert same.high - same.low == pytest.approx(one.high - one.low, rel=0.1)
    assert differing.high - differing.low > 3 * (one.high - one.low)


def test_no_values_and_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        cluster_bootstrap(np.array([]), np.array([], dtype=int), seed=0)
    with pytest.raises(ValueError, match="1 values that are not finite"):
        cluster_bootstrap(np.array([0.0, np.nan]), np.array([0, 1]), seed=0)
