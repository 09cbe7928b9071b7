import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ta_opd.rollout_metrics import (
    REVERSE_KL_METRICS,
    SAMPLE_METRICS,
    ratios,
    reverse_kl_statistics,
    sample_statistics,
)
from ta_opd.support import Provenance

from . import reference

seeds = st.integers(0, 2**32 - 1)
sample_lengths = st.lists(st.integers(0, 6), max_size=5)


def rollout(seed, lengths):
    """Masks and scores with holes of n tokens: some tokens masked, some without teacher, some without scores."""
    generator, n = torch.Generator().manual_seed(seed), sum(lengths)
    valid, known, chosen = (torch.rand(n, generator=generator) < share for share in (0.8, 0.7, 0.5))
    scores = reference.random_scores(seed, n)
    for values in (scores.entropy, scores.disagreement, scores.compatibility):
        values[torch.rand(n, generator=generator) < 0.3] = torch.nan
    scores.compatibility_provenance.copy_(torch.randint(0, 4, (n,), generator=generator))
    return chosen & valid & known, valid, known, torch.tensor(lengths, dtype=torch.long), scores


def slow_metrics(keep, valid, known, scores, tokens):
    """SAMPLE_METRICS of some tokens, in plain Python."""

    def mean(values, mask):
        inside = [float(values[i]) for i in tokens if mask[i] and not math.isnan(values[i])]
        return math.fsum(inside) / len(inside) if inside else None

    masked = [i for i in tokens if valid[i]]
    with_c = [i for i in masked if not math.isnan(scores.compatibility[i])]
    bounded = [i for i in with_c if int(scores.compatibility_provenance[i]) == Provenance.LOWER_BOUND]
    result = {
        "keep_ratio": sum(bool(keep[i]) for i in tokens) / len(masked) if masked else None,
        "missing_share": sum(not known[i] for i in masked) / len(masked) if masked else None,
        "lower_bound_share": len(bounded) / len(with_c) if with_c else None,
    }
    for name in ("entropy", "disagreement", "compatibility"):
        result[name] = mean(getattr(scores, name), valid)
        result[f"{name}_selected"] = mean(getattr(scores, name), keep)
    return {name: value for name, value in result.items() if value is not None}


@given(seed=seeds, lengths=sample_lengths)
def test_each_samples_statistics_are_the_definitions(seed, lengths):
    keep, valid, known, sizes, scores = rollout(seed, lengths)
    statistics = sample_statistics(keep, valid, known, sizes, scores)
    assert statistics.dtype == torch.float64 and statistics.shape == (len(lengths), len(SAMPLE_METRICS), 2)
    start = 0
    for sample, length in zip(statistics, lengths, strict=True):
        expected = slow_metrics(keep, valid, known, scores, range(start, start + length))
        assert ratios(SAMPLE_METRICS, sample) == pytest.approx(expected, rel=1e-12)
        start += length


@given(seed=seeds, lengths=sample_lengths, data=st.data())
def test_samples_spread_over_ranks_add_up_to_the_whole_rollout(seed, lengths, data):
    keep, valid, known, sizes, scores = rollout(seed, lengths)
    statistics = sample_statistics(keep, valid, known, sizes, scores)
    rank = torch.tensor([data.draw(st.integers(0, 2)) for _ in lengths], dtype=torch.long)
    summed = torch.stack([statistics[rank == r].sum(0) for r in range(3)]).sum(0)
    expected = slow_metrics(keep, valid, known, scores, range(sum(lengths)))
    assert ratios(SAMPLE_METRICS, summed) == pytest.approx(expected, rel=1e-12)


def test_without_scores_only_the_shares_are_counted():
    keep, valid = torch.tensor([True, False, False]), torch.tensor([True, True, False])
    known = torch.tensor([True, False, False])
    statistics = sample_statistics(keep, valid, known, torch.tensor([3]), None)
    assert statistics.shape == (1, len(SAMPLE_METRICS), 2)
    assert ratios(SAMPLE_METRICS, statistics[0]) == {"keep_ratio": 0.5, "missing_share": 0.5}


def test_a_mean_of_zero_is_reported_and_a_mean_of_nothing_is_not():
    assert ratios(("a", "b"), torch.tensor([[0.0, 3.0], [0.0, 0.0]])) == {"a": 0.0}


def test_names_and_statistics_that_do_not_match_are_an_error():
    with pytest.raises(ValueError):
        ratios(("a",), torch.ones(2, 2))


@given(seed=seeds, lengths=sample_lengths, poison=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_reverse_kl_counts_known_valid_tokens_and_kept_ones_and_nothing_else(seed, lengths, poison):
    keep, valid, known, _, _ = rollout(seed, lengths)
    difference = torch.randn(sum(lengths), generator=torch.Generator().manual_seed(seed)).masked_fill(~known, poison)
    parts = [values.split(lengths) if lengths else [] for values in (difference, valid, known, keep)]
    found = ratios(REVERSE_KL_METRICS, reverse_kl_statistics(*parts))
    expected = {}
    for name, mask in zip(REVERSE_KL_METRICS, (valid & known, keep), strict=True):
        inside = [float(x) for x, m in zip(difference, mask, strict=True) if m]
        if inside:
            expected[name] = math.fsum(inside) / len(inside)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_a_million_equal_terms_lose_nothing_to_rounding():
    values, everything = torch.full((2**20,), 0.1), torch.ones(2**20, dtype=torch.bool)
    statistics = reverse_kl_statistics([values], [everything], [everything], [everything])
    assert statistics[0, 0].item() == pytest.approx(2**20 * float(torch.tensor(0.1)), rel=1e-12)
