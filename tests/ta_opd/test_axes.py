import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ta_opd import Options, TokenScores
from ta_opd.axes import build_axes, compatibility_axis
from ta_opd.scores import SCORES

from . import reference

seeds = st.integers(0, 2**32 - 1)
ALL = ("h", "d", "c", "dc", "h_tip", "r_tip")


def options(**values):
    return Options(**({"topk_metrics_k": 4, "budget_mask": "teachability"} | values))


def axes_of(scores, valid, lengths, names=ALL, **values):
    valid = torch.as_tensor(valid, dtype=torch.bool)
    count = int(valid.sum())
    return build_axes(scores, valid, torch.as_tensor(lengths), options(**values), names, np.zeros(count, np.uint64))


def with_masked_tokens(scores, every, value):
    """The same tokens with a token of extreme scores before every `every`-th, and where the originals are."""
    n = len(scores)
    place = np.cumsum([1 + (i % every == 0) for i in range(n)]) - 1
    whole = {}
    for name in SCORES:
        values = getattr(scores, name)
        bigger = torch.full((place[-1] + 1,), value).to(values.dtype)
        bigger[place] = values
        whole[name] = bigger
    valid = np.zeros(place[-1] + 1, bool)
    valid[place] = True
    return TokenScores(**whole), valid


@given(seed=seeds, n=st.integers(2, 60))
def test_unit_axes_match_the_reference(seed, n):
    scores = reference.random_scores(seed, n)
    axes = axes_of(scores, [1] * n, [n])
    h, d, c, r = (
        [float(x) for x in values]
        for values in (scores.entropy, scores.disagreement, scores.compatibility, scores.reverse_kl)
    )
    top = reference.quantile(h, 0.98)
    expected = {
        "h": reference.normalise(h),
        "d": reference.normalise(d),
        "c": reference.normalise(c),
        "dc": reference.normalise([a * b for a, b in zip(d, c, strict=True)]),
        "h_tip": reference.normalise([min(x, top) for x in h], 0.0, 1.0),
        "r_tip": reference.normalise(r, 0.0, 1.0),
    }
    for name, values in expected.items():
        assert axes.unit[name].tolist() == pytest.approx(values, abs=3e-4), name
    assert axes.learnable.tolist() == (axes.unit["d"] * axes.unit["c"]).tolist()


@given(seed=seeds, n=st.integers(1, 40), every=st.integers(1, 4), proxy=st.sampled_from(["mass", "prefix_ema", "bc"]))
def test_masked_tokens_change_nothing_under_the_paper(seed, n, every, proxy):
    scores = reference.random_scores(seed, n)
    bigger, valid = with_masked_tokens(scores, every, 50.0)
    plain = axes_of(scores, [1] * n, [n], compat_proxy=proxy)
    masked = axes_of(bigger, valid, [len(valid)], compat_proxy=proxy)
    for name in plain.unit:
        np.testing.assert_array_equal(plain.unit[name], masked.unit[name])
    for name in plain.raw:
        np.testing.assert_array_equal(plain.raw[name], masked.raw[name])
    assert plain.median == masked.median and plain.degenerate == masked.degenerate
    np.testing.assert_array_equal(plain.quadrant, masked.quadrant)


def test_masked_tokens_move_the_released_normalisation():
    scores = reference.random_scores(0, 40)
    bigger, valid = with_masked_tokens(scores, 2, 50.0)
    plain = axes_of(scores, [1] * 40, [40], score_variant="released")
    masked = axes_of(bigger, valid, [len(valid)], score_variant="released")
    for name in ("h", "d"):
        assert len(masked.unit[name]) == 40 and np.abs(plain.unit[name] - masked.unit[name]).max() > 0.1
        everyone = [float(x) for x in {"h": bigger.entropy, "d": bigger.disagreement}[name]]
        expected = reference.normalise(everyone)
        assert masked.unit[name].tolist() == pytest.approx(np.array(expected)[valid].tolist(), abs=1e-4)
    assert masked.median["h"] == pytest.approx(
        np.median(reference.normalise([float(x) for x in bigger.entropy])), abs=1e-5
    )


def test_released_learnability_is_the_normalised_product():
    scores = reference.random_scores(1, 50)
    axes = axes_of(scores, [1] * 50, [50], score_variant="released")
    product = [float(d) * float(c) for d, c in zip(scores.disagreement, scores.compatibility, strict=True)]
    assert axes.learnable.tolist() == pytest.approx(reference.normalise(product), abs=1e-4)


def test_the_released_variant_counts_a_missing_score_as_zero_in_the_population():
    d = np.array([np.nan] * 5 + [1.0] * 5 + [2.0] * 10)
    scores = reference.token_scores(d, d, np.ones(20))
    paper, released = (
        axes_of(scores, [1] * 20, [20], ("d",), score_variant=variant).unit["d"] for variant in ("paper", "released")
    )
    assert np.isnan(paper[:5]).all() and paper[5] == 0
    assert released[5] == pytest.approx(0.5) and released[10] == 1


def test_an_axis_without_spread_is_named_and_zero():
    n = 30
    scores = reference.token_scores(np.arange(n), np.arange(n), np.ones(n))
    axes = axes_of(scores, [1] * n, [n])
    assert axes.degenerate == ("c",)
    assert not axes.unit["c"].any() and not axes.learnable.any()


@given(seed=seeds, n=st.integers(1, 40), missing=st.integers(0, 39))
def test_quadrants_split_at_the_medians_and_leave_the_unknown_out(seed, n, missing):
    scores = reference.random_scores(seed, n, coarse=True)
    d = scores.disagreement.clone()
    d[:missing] = torch.nan
    axes = axes_of(dataclasses.replace(scores, disagreement=d), [1] * n, [n], ("h", "d"))
    h, d = axes.unit["h"], axes.unit["d"]
    known = d[~np.isnan(d)]
    for i in range(n):
        if np.isnan(d[i]):
            assert axes.quadrant[i] == 0
            continue
        expected = {(1, 1): 1, (1, 0): 2, (0, 1): 3, (0, 0): 4}[h[i] >= np.median(h), d[i] >= np.median(known)]
        assert axes.quadrant[i] == expected


def test_every_proxy_reads_its_own_score():
    scores = dataclasses.replace(reference.random_scores(3, 5), jaccard=torch.full((5,), 0.25))
    valid, lengths = torch.ones(5, dtype=torch.bool), torch.tensor([2, 3])
    for proxy, expected in (
        ("mass", scores.compatibility),
        ("set", scores.overlap),
        ("jaccard", scores.jaccard),
        ("bc", scores.bhattacharyya),
    ):
        assert torch.equal(compatibility_axis(scores, valid, lengths, options(compat_proxy=proxy)), expected)
    ema = compatibility_axis(scores, valid, lengths, options(compat_proxy="prefix_ema"))
    c = scores.compatibility.tolist()
    assert ema.tolist() == pytest.approx(
        [c[0], 0.9 * c[0] + 0.1 * c[1], c[2], 0.9 * c[2] + 0.1 * c[3], 0.81 * c[2] + 0.09 * c[3] + 0.1 * c[4]]
    )


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_no_tokens_at_all_is_no_error(variant):
    empty = reference.token_scores([], [], [])
    axes = axes_of(empty, [], [0, 0], score_variant=variant)
    assert len(axes) == 0 and axes.quadrant.shape == (0,)
    all_masked = axes_of(reference.random_scores(0, 4), [0] * 4, [4], score_variant=variant)
    assert len(all_masked) == 0 and len(all_masked.unit["h"]) == 0
