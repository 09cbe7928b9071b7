import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ta_opd import SELECTORS, Options, TokenScores, find_selector, select_tokens
from ta_opd.scores import SCORES

from . import reference
from .test_methods import FORMULAS, METHODS

seeds = st.integers(0, 2**32 - 1)
FREE = sorted({mask for mask in METHODS.values() if not mask.startswith("q3")})
ratios = st.sampled_from([0.01, 0.03, 0.07, 0.1, 0.29, 0.5, 1.0])
sample_lengths = st.lists(st.integers(0, 25), min_size=1, max_size=6)


def options(mask="teachability", ratio=0.1, **values):
    return Options(**({"topk_metrics_k": 4, "budget_mask": mask, "budget_ratio": ratio} | values))


def random_mask(seed, n, share=0.8):
    return torch.from_numpy((np.random.default_rng(seed).random(n) < share).astype(np.int64))


def sample_of(lengths):
    return np.repeat(np.arange(len(lengths)), lengths)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("name", sorted(METHODS))
@settings(max_examples=25)
@given(seed=seeds, lengths=sample_lengths, ratio=ratios, least=st.integers(0, 2), coarse=st.booleans())
def test_exactly_the_budget_is_kept_inside_the_loss_mask(variant, name, seed, lengths, ratio, least, coarse):
    n, mask = sum(lengths), METHODS[name]
    loss_mask, sample = random_mask(seed, n), sample_of(lengths)
    for scope in ("batch", "sample"):
        o = options(name, ratio, score_variant=variant, budget_scope=scope, budget_min_keep_per_sample=least)
        result = select_tokens(reference.random_scores(seed, n, coarse), loss_mask, torch.tensor(lengths), o, 7)
        keep = result.keep.numpy()
        assert not keep[loss_mask.numpy() == 0].any()
        assert result.kept == keep.sum() and result.valid == int(loss_mask.sum())
        per_sample = [int(loss_mask.numpy()[sample == b].sum()) for b in range(len(lengths))]
        if mask == "tip_paper":
            expected = sum(min(m, max(1, int(round(ratio * 100) * m // 100))) for m in per_sample)
        elif mask == "full":
            expected = sum(per_sample)
        elif scope == "batch":
            expected = reference.ceil_budget(ratio, sum(per_sample))
        else:
            expected = sum(reference.ceil_budget(ratio, m) for m in per_sample)
        assert result.kept == expected if mask in FREE else result.kept <= expected
        if ratio == 1.0 and mask in FREE:
            assert np.array_equal(keep, loss_mask.numpy() != 0)
        if mask in FREE and scope == "batch" and expected >= sum(m > 0 for m in per_sample) and mask != "tip_paper":
            for b, m in enumerate(per_sample):
                assert keep[sample == b].sum() >= min(1 if least else 0, m)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("mask", sorted(FORMULAS))
@settings(max_examples=25)
@given(seed=seeds, n=st.integers(1, 60), ratio=ratios)
def test_no_dropped_token_beats_a_kept_one(mask, variant, seed, n, ratio):
    scores = reference.random_scores(seed, n)
    o = options(mask, ratio, score_variant=variant, budget_min_keep_per_sample=0)
    keep = select_tokens(scores, torch.ones(n), torch.tensor([n]), o).keep.numpy()
    raw = {"H": scores.entropy.tolist(), "D": scores.disagreement.tolist(), "C": scores.compatibility.tolist()}
    h, d, c = (np.array(reference.normalise(raw[a])) for a in "HDC")
    product = [a * b for a, b in zip(raw["D"], raw["C"], strict=True)]
    q = np.array(reference.normalise(product)) if variant == "released" else d * c
    score = FORMULAS[mask](h, d, c, q)
    inside = (h < np.median(h)) & (d >= np.median(d)) if mask.startswith("q3") else np.ones(n, bool)
    if mask.startswith("q3") and (np.abs(h - np.median(h)).min() < 1e-6 or np.abs(d - np.median(d)).min() < 1e-6):
        inside = keep | (inside & (np.abs(h - np.median(h)) > 1e-6) & (np.abs(d - np.median(d)) > 1e-6))
    if keep.any() and (inside & ~keep).any():
        assert score[keep].min() >= score[inside & ~keep].max() - 1e-4


def test_saturated_and_degenerate_scores_fall_back_to_the_raw_product_then_to_the_position():
    n = 40
    d = np.linspace(1, 2, n)
    scores = reference.token_scores(np.zeros(n), d, np.ones(n))
    result = select_tokens(scores, torch.ones(n), torch.tensor([n]), options(ratio=0.1))
    assert result.degenerate == ("c",)
    assert result.keep.nonzero()[:, 0].tolist() == [36, 37, 38, 39]
    released = select_tokens(
        scores,
        torch.ones(n),
        torch.tensor([n]),
        options(ratio=0.1, score_variant="released", budget_min_keep_per_sample=0),
    )
    assert released.keep.nonzero()[:, 0].tolist() == [0, 1, 2, 3]
    flat = reference.token_scores(np.ones(n), np.ones(n), np.ones(n))
    result = select_tokens(flat, torch.ones(n), torch.tensor([15, 25]), options("ta_softor", ratio=0.1))
    assert result.keep.nonzero()[:, 0].tolist() == [0, 1, 2, 15] and result.degenerate == ("c", "d", "h")


@pytest.mark.parametrize("mask", ["entropy", "divergence", "compatibility", "tip", "ca_softor"])
def test_a_budget_below_the_saturated_share_goes_by_the_raw_scores(mask):
    for seed in range(5):
        scores = reference.random_scores(seed, 400)
        o = options(mask, 0.03, budget_min_keep_per_sample=0)
        keep = select_tokens(scores, torch.ones(400), torch.tensor([400]), o).keep.numpy()
        raw = {"H": scores.entropy.numpy(), "D": scores.disagreement.numpy(), "C": scores.compatibility.numpy()}
        top = {axis: values >= np.quantile(values, 0.95) for axis, values in raw.items()}
        ties, raw = {
            "entropy": (top["H"], raw["H"]),
            "divergence": (top["D"], raw["D"]),
            "compatibility": (top["C"], raw["C"]),
            "tip": (top["H"] | top["D"], raw["H"] + raw["D"]),
            "ca_softor": (top["H"] | (top["D"] & top["C"]), raw["H"] + raw["D"] * raw["C"]),
        }[mask]
        assert set(np.flatnonzero(keep)) == set(sorted(np.flatnonzero(ties), key=lambda i: -raw[i])[:12])


@pytest.mark.parametrize("name", ["teachability", "tip", "ta_softor", "ta_split", "random", "q3", "tip_paper"])
def test_masked_tokens_change_no_choice_under_the_paper(name):
    for seed in range(10):
        n = 60
        scores, lengths = reference.random_scores(seed, n), [25, 0, 35]
        rng = np.random.default_rng(seed)
        valid = np.ones(n, bool)
        more = {name: getattr(scores, name) for name in SCORES}
        longer = list(lengths)
        for place in sorted(rng.integers(0, n + 1, 20), reverse=True):
            more = {k: torch.cat([v[:place], torch.full((1,), 99.0).to(v.dtype), v[place:]]) for k, v in more.items()}
            valid = np.insert(valid, place, False)
            longer[0 if place < 25 else 2] += 1
        o = options(name, 0.2, compat_proxy="prefix_ema")
        plain = select_tokens(scores, torch.ones(n), torch.tensor(lengths), o, 3)
        masked = select_tokens(TokenScores(**more), torch.tensor(valid), torch.tensor(longer), o, 3)
        assert torch.equal(plain.keep, masked.keep[torch.from_numpy(valid)])
        assert not masked.keep[torch.from_numpy(~valid)].any()


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_selection_is_a_function_of_seed_and_rollout(variant):
    scores, mask, lengths = reference.random_scores(0, 200), torch.ones(200), torch.tensor([120, 80])

    def kept(name, rollout, seed=42):
        o = options(name, 0.2, budget_mask_seed=seed, score_variant=variant)
        return select_tokens(scores, mask, lengths, o, rollout).keep

    assert torch.equal(kept("random", 5), kept("random", 5))
    assert not torch.equal(kept("random", 5), kept("random", 6))
    assert not torch.equal(kept("random", 5), kept("random", 5, seed=43))
    assert torch.equal(kept("teachability", 5), kept("teachability", 6))


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("name", ["teachability", "tip", "ta_softor", "ta_split", "q3_highc", "divergence"])
@pytest.mark.parametrize("known", [0, 1, 3, 30])
def test_tokens_without_scores_are_counted_and_never_kept(name, known, variant):
    n = 40
    scores = reference.random_scores(1, n)
    d, c = scores.disagreement.clone(), scores.compatibility.clone()
    d[known:], c[known:] = torch.nan, torch.nan
    d[0] = torch.inf if known > 1 else d[0]
    scores = dataclasses.replace(scores, disagreement=d, compatibility=c)
    result = select_tokens(scores, torch.ones(n), torch.tensor([10, 30]), options(name, 0.5, score_variant=variant))
    usable = known - (known > 1)
    assert result.not_scored == n - usable
    assert not result.keep[known:].any() and (known <= 1 or not result.keep[0])
    assert result.kept <= usable and (name.startswith("q3") or result.kept == min(20, usable))
    assert result.score[known:].isnan().all()


def test_the_minimum_swaps_and_never_adds():
    d = np.array([9.0, 8, 7, 6, 5, 4, 1, 2, 0.5, 0.1])
    scores, lengths = reference.token_scores(d, d, np.ones(10)), torch.tensor([6, 0, 2, 2])
    for least, ratio, expected in (
        (0, 0.3, [0, 1, 2]),
        (1, 0.3, [0, 7, 8]),
        (1, 0.2, [0, 7]),
        (1, 0.1, [0]),
        (2, 0.5, [0, 1, 6, 7, 8]),
        (2, 0.6, [0, 1, 6, 7, 8, 9]),
    ):
        o = options("divergence", ratio, budget_min_keep_per_sample=least)
        assert select_tokens(scores, torch.ones(10), lengths, o).keep.nonzero()[:, 0].tolist() == expected


@pytest.mark.parametrize("name", [selector.name for selector in SELECTORS])
@pytest.mark.parametrize("lengths", [[], [0, 0], [3, 2]])
def test_nothing_to_select_from_is_no_error(name, lengths):
    n = sum(lengths)
    for variant in ("paper", "released"):
        for scope in ("batch", "sample"):
            o = options(name, 0.5, score_variant=variant, budget_scope=scope)
            empty = reference.random_scores(0, n)
            result = select_tokens(empty, torch.zeros(n), torch.tensor(lengths, dtype=torch.long), o)
            assert (result.kept, result.valid, result.not_scored) == (0, 0, 0) and len(result.keep) == n


def test_tip_as_published_ranks_each_sample_by_clipped_entropy_and_reverse_divergence():
    scores, lengths = reference.random_scores(4, 90), [50, 40]
    o = options("tip_paper", 0.2, budget_min_keep_per_sample=0)
    keep = select_tokens(scores, torch.ones(90), torch.tensor(lengths), o).keep.numpy()
    h, r = [float(x) for x in scores.entropy], [float(x) for x in scores.reverse_kl]
    top = reference.quantile(h, 0.98)
    h, r = reference.normalise([min(x, top) for x in h], 0, 1), reference.normalise(r, 0, 1)
    score = [reference.soft_or(a, b) for a, b in zip(h, r, strict=True)]
    for start, stop in ((0, 50), (50, 90)):
        best = sorted(range(start, stop), key=lambda i: -score[i])[: (stop - start) // 5]
        assert set(np.flatnonzero(keep[start:stop]) + start) == set(best)


def test_tip_as_published_breaks_ties_by_the_raw_divergence():
    r = torch.tensor([1.0, 4.0, 3.0, 4.0, 2.0, 3.5])
    scores = reference.token_scores([5.0, 5, 5, 0, 5, 5], np.zeros(6), np.zeros(6), reverse_kl=r)
    keep = select_tokens(scores, torch.ones(6), torch.tensor([6]), options("tip_paper", 0.5)).keep
    assert keep.nonzero()[:, 0].tolist() == [1, 3, 5]


def test_sizes_that_disagree_and_missing_scores_are_refused():
    scores = reference.random_scores(0, 5)
    with pytest.raises(ValueError, match="lengths sum to 4, the loss mask has 5"):
        select_tokens(scores, torch.ones(5), torch.tensor([4]), options())
    with pytest.raises(ValueError, match="5 token scores, but the loss mask has 6"):
        select_tokens(scores, torch.ones(6), torch.tensor([6]), options())
    with pytest.raises(ValueError, match="--opd-budget-mask tip needs token scores"):
        select_tokens(None, torch.ones(5), torch.tensor([5]), options("tip"))
    for name in ("random", "full", "none"):
        assert not find_selector(name).axes
        assert select_tokens(None, torch.ones(5), torch.tensor([5]), options(name, 0.4)).axes is None


@pytest.mark.parametrize("name", ["q3", "teachability", "tip_paper"])
def test_the_released_variant_leaves_the_mask_alone_at_ratio_one(name):
    scores, mask = reference.random_scores(0, 40), random_mask(1, 40)
    selection = select_tokens(scores, mask, torch.tensor([40]), options(name, 1.0, score_variant="released"))
    assert torch.equal(selection.keep, mask != 0)


@pytest.mark.parametrize("name", ["random", "teachability_entropy_split"])
def test_a_method_without_one_score_reports_none(name):
    selection = select_tokens(reference.random_scores(0, 40), random_mask(1, 40), torch.tensor([40]), options(name))
    assert selection.score.isnan().all()


@pytest.mark.parametrize("name", ["pure_opd", "random", "teachability"])
def test_tokens_without_a_teacher_are_never_kept_and_counted(name):
    known = torch.ones(40, dtype=torch.bool)
    known[5:15] = False
    mask = torch.ones(40, dtype=torch.int)
    selection = select_tokens(reference.random_scores(0, 40), mask, torch.tensor([40]), options(name, 0.5), known=known)
    assert not selection.keep[5:15].any()
    assert selection.kept == (30 if name == "pure_opd" else 20)
    assert selection.not_scored == 10


def test_tokens_kept_by_a_tie_break_are_counted():
    scores = reference.random_scores(0, 40)
    flat = dataclasses.replace(scores, entropy=torch.ones(40))
    lengths, mask = torch.tensor([40]), torch.ones(40, dtype=torch.int)
    assert select_tokens(flat, mask, lengths, options("entropy", 0.5)).tied == 20
    assert select_tokens(flat, mask, lengths, options("entropy", 1.0)).tied == 0
    distinct = dataclasses.replace(scores, entropy=torch.arange(40.0))
    unclipped = options("entropy", 0.5, metric_normalization="batch_minmax")
    assert select_tokens(distinct, mask, lengths, unclipped).tied == 0
