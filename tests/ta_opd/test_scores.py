import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ta_opd import Provenance, Supports, TopK, token_scores
from ta_opd.entries import Entries
from ta_opd.scores import SCORES, prefix_ema, soft_or

from . import reference

seeds = st.integers(0, 2**32 - 1)
BETWEEN_0_AND_1 = ("compatibility", "compatibility_bound", "overlap", "jaccard", "bhattacharyya")


def random_logits(seed, n=4, v=12, scale=3.0):
    return scale * torch.randn(n, v, generator=torch.Generator().manual_seed(seed))


def lists(logits, k):
    return [reference.top_k(reference.softmax(row), k) for row in logits.tolist()]


def assert_matches(scores, n, expected, names, rel=1e-4, abs=2e-5):
    for name in names:
        assert getattr(scores, name)[n].item() == pytest.approx(expected[name], rel=rel, abs=abs), name


@given(seed=seeds, k_s=st.integers(1, 12), k_t=st.integers(1, 12))
def test_scores_of_two_lists_match_the_reference(seed, k_s, k_t):
    z_s, z_t = random_logits(seed, scale=1.0), random_logits(seed + 1, scale=1.0)
    scores = token_scores(Supports(TopK.from_logits(z_s, k_s), TopK.from_logits(z_t, k_t)))
    for n, (s, t) in enumerate(zip(lists(z_s, k_s), lists(z_t, k_t), strict=True)):
        expected = reference.scores(s, t)
        assert_matches(scores, n, expected, expected, abs=5e-5)
        assert scores.reverse_kl[n].item() == pytest.approx(expected["reverse_disagreement"], rel=1e-4, abs=5e-5)
        assert scores.entropy[n].item() == pytest.approx(reference.bucketed_entropy(s), rel=1e-4, abs=2e-5)


@given(seed=seeds, k=st.integers(1, 12), scale=st.sampled_from([0.1, 1.0, 10.0, 60.0]))
def test_exact_scores_match_the_reference_on_true_probabilities(seed, k, scale):
    z_s, z_t = random_logits(seed, scale=scale), random_logits(seed + 1, scale=scale)
    scores = token_scores(Supports.from_logits(z_s, z_t, k))
    for n, (row_s, row_t) in enumerate(zip(z_s.tolist(), z_t.tolist(), strict=True)):
        p_s, p_t = reference.softmax(row_s), reference.softmax(row_t)
        ids_s, ids_t = reference.top_k(p_s, k), reference.top_k(p_t, k)
        p_s, p_t = ([max(p, reference.TINY) for p in side] for side in (p_s, p_t))
        s, t = {i: p_s[i] for i in ids_s}, {i: p_t[i] for i in ids_t}
        expected = reference.scores(s, t, dict(enumerate(p_t)), dict(enumerate(p_s)))
        assert_matches(scores, n, expected, ("disagreement", "compatibility", "compatibility_bound", "bhattacharyya"))
        assert scores.entropy[n].item() == pytest.approx(reference.entropy(p_s), abs=1e-5)
        assert scores.reverse_kl[n].item() == pytest.approx(reference.kl(p_s, p_t), rel=1e-5, abs=1e-5)
    assert set(scores.compatibility_provenance.tolist()) == {Provenance.EXACT}


@given(seed=seeds, k_s=st.integers(1, 12), k_t=st.integers(1, 12))
def test_released_scores_match_the_released_formulas(seed, k_s, k_t):
    z_s, z_t = random_logits(seed), random_logits(seed + 1)
    scores = token_scores(Supports(TopK.from_logits(z_s, k_s), TopK.from_logits(z_t, k_t)), "released")
    for n, (s, t) in enumerate(zip(lists(z_s, k_s), lists(z_t, k_t), strict=True)):
        assert scores.disagreement[n].item() == pytest.approx(reference.released_disagreement(s, t), rel=1e-4, abs=1e-5)
        assert scores.entropy[n].item() == pytest.approx(reference.released_entropy(s), rel=1e-4, abs=1e-5)
        assert scores.compatibility[n].item() == pytest.approx(sum(t.get(i, 0) for i in s), abs=1e-5)


@given(seed=seeds, k=st.integers(1, 12), scale=st.sampled_from([0.1, 3.0, 80.0]))
def test_identical_distributions_do_not_disagree(seed, k, scale):
    z = random_logits(seed, scale=scale)
    for variant in ("paper", "released"):
        scores = token_scores(Supports.from_logits(z, z, k), variant)
        for name in ("disagreement", "reverse_disagreement", "reverse_kl"):
            assert getattr(scores, name).tolist() == [0.0] * 4, (variant, name)
        assert scores.overlap.tolist() == scores.jaccard.tolist() == [1.0] * 4
        assert scores.bhattacharyya.tolist() == pytest.approx([1.0] * 4, abs=1e-6)


@given(seed=seeds, k_s=st.integers(1, 12), k_t=st.integers(1, 12), scale=st.sampled_from([0.1, 3.0, 80.0]))
def test_the_bound_never_exceeds_exact_compatibility_and_all_stay_in_range(seed, k_s, k_t, scale):
    z_s, z_t = random_logits(seed, scale=scale), random_logits(seed + 1, scale=scale)
    student, teacher = TopK.from_logits(z_s, k_s), TopK.from_logits(z_t, k_t)
    bound = token_scores(Supports(student, teacher))
    exact = token_scores(Supports(student, teacher, torch.log_softmax(z_t, -1).gather(1, student.ids.long())))
    assert bool((bound.compatibility <= exact.compatibility + 1e-6).all())
    assert torch.equal(bound.compatibility, bound.compatibility_bound)
    assert torch.allclose(exact.compatibility_bound, bound.compatibility_bound)
    for scores in (bound, exact):
        for name in BETWEEN_0_AND_1:
            assert bool(((getattr(scores, name) >= 0) & (getattr(scores, name) <= 1)).all()), name
        assert bool((scores.disagreement >= 0).all() and (scores.reverse_disagreement >= 0).all())
    everything_shared = bound.overlap == 1
    expected = torch.where(everything_shared, int(Provenance.EXACT), int(Provenance.LOWER_BOUND))
    assert torch.equal(bound.compatibility_provenance.long(), expected)


@given(seed=seeds, k=st.integers(1, 12))
def test_renaming_the_tokens_changes_nothing(seed, k):
    z_s, z_t = random_logits(seed), random_logits(seed + 1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    plain, renamed = (
        token_scores(Supports.from_logits(a, b, k)) for a, b in ((z_s, z_t), (z_s[:, order], z_t[:, order]))
    )
    for name in SCORES:
        torch.testing.assert_close(getattr(plain, name), getattr(renamed, name), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_a_missing_side_gives_nan_and_says_so_without_touching_its_neighbours(variant):
    z_s, z_t = random_logits(0), random_logits(1)
    student, teacher = TopK.from_logits(z_s, 3), TopK.from_logits(z_t, 5)
    whole = token_scores(Supports(student, teacher), variant)
    student.ids[1], teacher.ids[2] = -1, -1
    student.logprobs[1], teacher.logprobs[2] = torch.nan, torch.nan
    scores = token_scores(Supports(student, teacher), variant)
    for name in SCORES:
        values, before = getattr(scores, name), getattr(whole, name)
        assert torch.equal(values[[0, 3]], before[[0, 3]]), name
        if not name.startswith("entropy") and not name.endswith("provenance"):
            assert values[1:3].isnan().all(), name
    assert scores.entropy[1].isnan() and scores.entropy[2] == whole.entropy[2]
    if variant == "paper":
        known = token_scores(Supports(student, teacher, student_entropy=torch.tensor([1.0, 2.0, torch.nan, 3.0])))
        assert known.entropy.tolist() == [1.0, 2.0, scores.entropy[2].item(), 3.0]
        assert known.entropy_provenance.tolist() == [2, 2, 1, 2]
    assert scores.entropy_provenance.tolist()[1] == Provenance.MISSING
    assert scores.compatibility_provenance.tolist()[1:3] == [Provenance.MISSING] * 2


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_a_log_prob_that_is_nan_gives_a_nan_for_its_token_alone(variant):
    z_s, z_t = random_logits(0), random_logits(1)
    for side in (0, 1):
        lists = [TopK.from_logits(z_s, 3), TopK.from_logits(z_t, 3)]
        whole = token_scores(Supports(*lists), variant).disagreement
        lists[side].logprobs[1, 0] = torch.nan
        got = token_scores(Supports(*lists), variant).disagreement
        assert got.isnan().tolist() == [False, True, False, False]
        assert torch.equal(got[[0, 2, 3]], whole[[0, 2, 3]])


@given(seed=seeds, k=st.integers(1, 6), extra=st.integers(1, 4))
def test_empty_entries_change_nothing(seed, k, extra):
    z_s, z_t = random_logits(seed), random_logits(seed + 1)
    short = [reference.token_list(lists(z, k)) for z in (z_s, z_t)]
    padded = [reference.token_list(lists(z, k), k + extra) for z in (z_s, z_t)]
    padded[1].logprobs[padded[1].ids < 0] = torch.nan
    for variant in ("paper", "released"):
        plain, longer = token_scores(Supports(*short), variant), token_scores(Supports(*padded), variant)
        for name in SCORES:
            torch.testing.assert_close(getattr(plain, name), getattr(longer, name), atol=1e-6, rtol=1e-6)


def test_disjoint_lists_cost_far_less_than_the_released_floor():
    p_s = [0.3, 0.25, 0.2, 0.15] + [0.1 / 8] * 8
    p_t = p_s[4:8] + p_s[:4] + p_s[8:]
    supports = Supports.from_logits(torch.tensor([p_s]).log(), torch.tensor([p_t]).log(), 4)
    paper, released = token_scores(supports), token_scores(supports, "released")
    assert 1 < paper.disagreement.item() < 7
    assert 26 < released.disagreement.item() < 28
    assert paper.compatibility_bound.item() == 0 and 0 < paper.compatibility.item() < 0.06
    imputed = token_scores(Supports(supports.student, supports.teacher))
    assert 1 < imputed.disagreement.item() < 7 and imputed.compatibility.item() == 0


def test_one_hot_distributions_give_the_table_of_edge_cases():
    one_hot = torch.full((1, 12), -torch.inf)
    one_hot[0, 2] = 0.0
    student = torch.tensor([[0.3, 0.2, 0.25, 0.15] + [0.1 / 8] * 8]).log()
    inside = token_scores(Supports.from_logits(student, one_hot, 4))
    assert inside.compatibility.item() == 1
    assert inside.disagreement.item() == pytest.approx(-math.log(0.25 / 0.925), abs=0.05)
    outside = token_scores(Supports.from_logits(student.roll(3, 1), one_hot, 2))
    assert outside.compatibility.item() == pytest.approx(0, abs=1e-6) and outside.disagreement.item() > 2
    agrees = token_scores(Supports.from_logits(one_hot, one_hot, 4))
    assert (agrees.disagreement.item(), agrees.compatibility.item(), agrees.entropy.item()) == (0, 1, 0)
    assert token_scores(Supports.from_logits(one_hot, student, 4)).disagreement.item() > 20


def test_long_batches_are_scored_like_their_tokens_one_by_one():
    z_s, z_t = random_logits(5, n=5000, v=6), random_logits(6, n=5000, v=6)
    whole = token_scores(Supports.from_logits(z_s, z_t, 2))
    for n in (0, 4095, 4096, 4999):
        alone = token_scores(Supports.from_logits(z_s[n : n + 1], z_t[n : n + 1], 2))
        for name in SCORES:
            torch.testing.assert_close(getattr(whole, name)[n : n + 1], getattr(alone, name), atol=1e-6, rtol=1e-6)
    assert len(token_scores(Supports.from_logits(z_s[:0], z_t[:0], 2))) == 0


@given(seed=seeds, k=st.integers(1, 12))
def test_list_entropy_is_a_lower_bound_with_a_bucket_and_full_when_renormalised(seed, k):
    z = random_logits(seed)
    topk = TopK.from_logits(z, k)
    for n, own in enumerate(lists(z, k)):
        full = reference.entropy(reference.softmax(z[n].tolist()))
        assert Entries.of(topk).entropy()[n].item() <= full + 1e-5
        expected = reference.entropy(reference.renormalise(own).values())
        assert Entries.of(topk).entropy(renormalised=True)[n].item() == pytest.approx(expected, abs=1e-5)


@given(seed=seeds, lengths=st.lists(st.integers(0, 40), max_size=5), alpha=st.sampled_from([0.0, 0.5, 0.9, 0.999]))
def test_the_prefix_average_follows_the_recurrence_and_passes_over_what_does_not_count(seed, lengths, alpha):
    generator = torch.Generator().manual_seed(seed)
    n = sum(lengths)
    values, valid = torch.rand(n, generator=generator), torch.rand(n, generator=generator) < 0.8
    values[torch.rand(n, generator=generator) < 0.1] = torch.nan
    got = prefix_ema(values, torch.tensor(lengths, dtype=torch.long), valid, alpha).tolist()
    start = 0
    for length in lengths:
        average = None
        for i in range(start, start + length):
            if not valid[i] or values[i].isnan():
                assert math.isnan(got[i])
                continue
            average = values[i].item() if average is None else alpha * average + (1 - alpha) * values[i].item()
            assert got[i] == pytest.approx(average, abs=1e-6)
        start += length


@given(a=st.floats(0, 1, width=32), b=st.floats(0, 1, width=32))
def test_soft_or_is_symmetric_up_to_rounding_and_at_least_both(a, b):
    a, b = torch.tensor(a), torch.tensor(b)
    both = soft_or(a, b)
    assert both.item() == pytest.approx(reference.soft_or(a.item(), b.item()), abs=2e-7)
    assert max(a, b) - 6e-8 <= both <= 1
    assert both >= a


def test_soft_or_with_a_saturated_axis_is_exactly_one():
    other = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert soft_or(torch.ones(1000), other).eq(1).all() and soft_or(other, torch.ones(1000)).eq(1).all()


def test_unknown_names_and_ranges_are_refused():
    with pytest.raises(ValueError, match=r"--opd-score-variant 'new' is not one of paper, released"):
        token_scores(Supports(TopK.missing(1, 1), TopK.missing(1, 1)), "new")
    with pytest.raises(ValueError, match=r"--opd-compat-prefix-ema-alpha 1 is outside"):
        prefix_ema(torch.zeros(1), torch.tensor([1]), torch.ones(1, dtype=torch.bool), 1)


def test_disagreement_says_whether_it_was_imputed():
    logits = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    exact = Supports.from_logits(*logits, 4)
    lists = Supports(exact.student, exact.teacher)
    whole = Supports.from_logits(*logits, 12)
    missing = Supports(exact.student, TopK.missing(5, 4))
    assert token_scores(exact).disagreement_provenance.tolist() == [Provenance.EXACT] * 5
    assert token_scores(lists).disagreement_provenance.tolist() == [Provenance.IMPUTED] * 5
    assert token_scores(exact, "released").disagreement_provenance.tolist() == [Provenance.IMPUTED] * 5
    assert token_scores(Supports(whole.student, whole.teacher)).disagreement_provenance.tolist() == [2] * 5
    assert token_scores(missing).disagreement_provenance.tolist() == [Provenance.MISSING] * 5
