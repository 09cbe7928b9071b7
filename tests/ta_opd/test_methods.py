import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ta_opd import LOSSES, SELECTORS, LossInputs, Options, divergences, find_selector
from ta_opd.axes import build_axes

from . import reference

seeds = st.integers(0, 2**32 - 1)

METHODS = {
    "pure_opd": "full",
    "full_opd": "full",
    "full": "full",
    "none": "full",
    "teachability": "dlearn_high",
    "teachability_high": "dlearn_high",
    "dlearn": "dlearn_high",
    "dlearn_high": "dlearn_high",
    "entropy": "entropy",
    "high_entropy": "entropy",
    "teachability_entropy": "ca_softor",
    "entropy_teachability": "ca_softor",
    "ta_softor": "ca_softor",
    "dlearn_entropy": "ca_softor",
    "ca_softor": "ca_softor",
    "teachability_entropy_split": "split_budget_ca",
    "entropy_teachability_split": "split_budget_ca",
    "ta_split": "split_budget_ca",
    "split_budget_ca": "split_budget_ca",
    "tip": "tip",
    "tip_softor": "tip",
    "q3_highc": "q3_highc",
    "q3_highC": "q3_highc",
    "q3": "q3",
    "divergence": "divergence",
    "high_d": "divergence",
    "raw_d": "divergence",
    "compatibility": "compatibility",
    "high_c": "compatibility",
    "random": "random",
    "q3_lowc": "q3_lowc",
    "q3_teachability_high": "q3_dlearn_high",
    "q3_teachability_low": "q3_dlearn_low",
    "q3_dlearn_high": "q3_dlearn_high",
    "q3_dlearn_low": "q3_dlearn_low",
    "q3_dincompat_high": "q3_dincompat_high",
    "dincompat_high": "dincompat_high",
    "tip_paper": "tip_paper",
}

FORMULAS = {
    "dlearn_high": lambda h, d, c, q: d * c,
    "entropy": lambda h, d, c, q: h,
    "ca_softor": lambda h, d, c, q: h + q - h * q,
    "tip": lambda h, d, c, q: h + d - h * d,
    "divergence": lambda h, d, c, q: d,
    "compatibility": lambda h, d, c, q: c,
    "dincompat_high": lambda h, d, c, q: d * (1 - c),
    "q3_highc": lambda h, d, c, q: c,
    "q3_lowc": lambda h, d, c, q: 1 - c,
    "q3_dlearn_high": lambda h, d, c, q: d * c,
    "q3_dlearn_low": lambda h, d, c, q: 1 - d * c,
    "q3_dincompat_high": lambda h, d, c, q: d * (1 - c),
    "q3": lambda h, d, c, q: d * (1 - h),
}


def ranked(mask, seed, n, variant="paper", budget=5):
    options = Options(topk_metrics_k=4, budget_mask=mask, score_variant=variant)
    axes = build_axes(
        reference.random_scores(seed, n),
        torch.ones(n, dtype=torch.bool),
        torch.tensor([n]),
        options,
        ("h", "d", "c", "dc", "h_tip", "r_tip"),
        np.arange(n, dtype=np.uint64),
    )
    return axes, find_selector(mask).rank(axes, budget)


@pytest.mark.parametrize(("name", "mask"), METHODS.items())
def test_every_released_name_finds_its_mask(name, mask):
    assert find_selector(name).mask == mask


def test_the_table_has_no_method_that_the_tests_do_not_know():
    assert {selector.mask for selector in SELECTORS} == set(METHODS.values())
    names = [name for s in SELECTORS for name in {s.name, s.mask, *s.aliases}]
    assert len(names) == len(set(names))


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown method 'teachabilty'") as error:
        find_selector("teachabilty")
    for name in ("pure_opd", "teachability", "ca_softor", "q3_dincompat_high", "tip_paper"):
        assert name in str(error.value)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("mask", FORMULAS)
def test_scores_follow_the_formulas_and_stay_in_0_to_1(mask, variant):
    for seed in range(5):
        axes, ranking = ranked(mask, seed, 60, variant)
        h, d, c = (axes.unit[name].astype(np.float64) for name in "hdc")
        q = axes.unit["dc"].astype(np.float64) if variant == "released" else d * c
        np.testing.assert_allclose(ranking.keys[0], FORMULAS[mask](h, d, c, q), atol=3e-7)
        assert ranking.keys[0].min() >= 0 and ranking.keys[0].max() <= 1
        assert len(ranking.keys) == (1 if variant == "released" else 2)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_soft_ors_are_at_least_both_of_their_parts(variant):
    for seed in range(20):
        axes, both = ranked("ca_softor", seed, 80, variant)
        assert (both.keys[0] >= np.maximum(axes.unit["h"], axes.learnable) - 6e-8).all()
        axes, tip = ranked("tip", seed, 80, variant)
        assert (tip.keys[0] >= np.maximum(axes.unit["h"], axes.unit["d"]) - 6e-8).all()


def test_tokens_saturated_on_one_axis_tie_exactly_and_are_ordered_by_their_raw_scores():
    for seed in range(10):
        axes, tip = ranked("tip", seed, 200)
        saturated = (axes.unit["h"] == 1) | (axes.unit["d"] == 1)
        assert saturated.sum() >= 10 and (tip.keys[0][saturated] == 1).all()
        np.testing.assert_allclose(tip.keys[1], axes.raw["H"] + axes.raw["D"])


@pytest.mark.parametrize("mask", [mask for mask in FORMULAS if mask.startswith("q3")])
def test_q3_methods_are_eligible_inside_q3_only(mask):
    axes, ranking = ranked(mask, 0, 80)
    h, d = axes.unit["h"], axes.unit["d"]
    np.testing.assert_array_equal(ranking.eligible, (h < np.median(h)) & (d >= np.median(d)))
    assert 0 < ranking.eligible.sum() < 80


@pytest.mark.parametrize("variant", ["paper", "released"])
@given(seed=seeds, n=st.integers(1, 60), gamma=st.sampled_from([0.0, 0.25, 0.5, 1.0]), data=st.data())
def test_a_split_budget_takes_both_halves_and_back_fills(variant, seed, n, gamma, data):
    budget = data.draw(st.integers(1, n))
    scores = reference.random_scores(seed, n)
    options = Options(topk_metrics_k=4, budget_mask="ta_split", budget_gamma=gamma, score_variant=variant)
    valid, lengths = torch.ones(n, dtype=torch.bool), torch.tensor([n])
    axes = build_axes(scores, valid, lengths, options, ("h", "d", "c", "dc"), np.zeros(n, np.uint64))
    ranking = find_selector("ta_split").rank(axes, budget)
    h, q = axes.unit["h"], axes.learnable
    by_entropy = round(gamma * budget)

    def best(score, raw, count):
        ties = np.zeros(n) if variant == "released" else raw
        return set(sorted(range(n), key=lambda i: (-score[i], -ties[i], i))[:count])

    chosen = best(h, axes.raw["H"], by_entropy)
    chosen |= best((1 - h) * q, axes.raw["D"] * axes.raw["C"], budget - by_entropy)
    kept = np.lexsort((np.arange(n), *[-key for key in reversed(ranking.keys)]))[:budget]
    assert chosen <= set(kept.tolist())
    rest = [i for i in range(n) if i not in chosen]
    filled = sorted(rest, key=lambda i: -reference.soft_or(float(h[i]), float(q[i])))[: budget - len(chosen)]
    worst = min((reference.soft_or(float(h[i]), float(q[i])) for i in filled), default=0)
    for i in set(kept.tolist()) - chosen:
        assert reference.soft_or(float(h[i]), float(q[i])) >= worst - 1e-6


def loss_inputs(seed=0, n=6, v=9, t=0.5):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (2 * torch.randn(n, v, generator=generator) for _ in range(2))
    tokens = torch.randint(0, v, (n, 1), generator=generator)
    sampled = [torch.log_softmax(z, -1).gather(1, tokens)[:, 0] for z in (student, teacher)]
    return LossInputs(student, teacher, sampled[0], sampled[1], sampled[0] - 0.05, t)


def test_losses_by_name_are_the_divergences_with_the_options_put_in():
    x = loss_inputs()
    s, t = x.student_logits, x.teacher_logits
    options = Options(
        loss_temperature=1.7, jsd_beta=0.3, loss_top_k=4, jsd_token_clip=0.05, skew_alpha=0.2, taid_space="prob"
    )
    expected = {
        "sampled_token": divergences.sampled_token(x.student_logprob, x.teacher_logprob, x.rollout_logprob),
        "forward_kl": divergences.forward_kl(s, t, 1.7, top_k=4),
        "reverse_kl": divergences.reverse_kl(s, t, 1.7),
        "jsd": divergences.generalized_jsd(s, t, 0.3, temperature=1.7, top_k=4, token_clip=0.05),
        "skew_forward_kl": divergences.skew_forward_kl(s, t, 0.2, 1.7),
        "skew_reverse_kl": divergences.skew_reverse_kl(s, t, 0.2, 1.7),
        "taid": divergences.taid(s, t, 0.5, space="prob", beta=0.3, temperature=1.7),
    }
    for name, values in expected.items():
        torch.testing.assert_close(LOSSES[name](x, options), values, msg=name)
    assert set(LOSSES) == {*expected, "entropy_aware", "taid_entropy_aware"}
    for name in ("forward_kl", "reverse_kl"):
        plain = Options(jsd_beta=float(name == "reverse_kl"))
        torch.testing.assert_close(LOSSES["jsd"](x, plain), getattr(divergences, name)(s, t))
        assert torch.equal(LOSSES[f"skew_{name}"](x, Options(skew_alpha=0.0)), LOSSES[name](x, Options()))
    torch.testing.assert_close(LOSSES["jsd"](x, Options()), divergences.generalized_jsd(s, t, 0.5))


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd"])
@pytest.mark.parametrize("gate", ["hard_add", "sigmoid", "h_max"])
def test_taid_behind_a_gate_is_plain_taid_when_shut_and_the_gated_divergence_at_the_end(divergence, gate):
    o = Options(taid_divergence=divergence, entropy_gate=gate, entropy_tau=1.5, entropy_h_max=3.0)
    x = loss_inputs()
    s, t = x.student_logits, x.teacher_logits
    weights = divergences.entropy_gate(divergences.entropy(t), gate, tau=1.5, h_max=3.0)
    expected = divergences.entropy_aware(
        divergences.taid(s, t, 0.5, divergence=divergence), divergences.taid(s, t, 0.5), weights
    )
    torch.testing.assert_close(LOSSES["taid_entropy_aware"](x, o), expected)
    shut = replace(o, entropy_gate="hard_add", entropy_tau=100.0)
    assert torch.equal(LOSSES["taid_entropy_aware"](x, shut), LOSSES["taid"](x, shut))
    end = x._replace(taid_t=1.0)
    assert torch.equal(LOSSES["taid"](end, o), LOSSES[divergence](end, o))
    if gate != "hard_add" and divergence == "reverse_kl":
        assert torch.equal(LOSSES["taid_entropy_aware"](end, o), LOSSES["entropy_aware"](end, o))


def test_entropy_aware_distillation_adds_the_forward_kl_where_the_teacher_is_unsure():
    x = loss_inputs()
    entropies = divergences.entropy(x.teacher_logits)
    tau = float(entropies.sort().values[2:4].mean())
    base, forward = LOSSES["sampled_token"](x, Options()), LOSSES["forward_kl"](x, Options())
    got = LOSSES["entropy_aware"](x, Options(entropy_tau=tau, entropy_alpha=0.5))
    torch.testing.assert_close(got, base + 0.5 * (entropies > tau) * forward)
    assert torch.equal(LOSSES["entropy_aware"](x, Options(entropy_tau=100.0)), base)


def test_blended_entropy_gates_mix_both_directions():
    x = loss_inputs()
    entropies, forward = divergences.entropy(x.teacher_logits), LOSSES["forward_kl"](x, Options())
    reverse = LOSSES["reverse_kl"](x, Options())
    sigmoid = torch.sigmoid((entropies - 0.8) / 0.2)
    got = LOSSES["entropy_aware"](x, Options(entropy_gate="sigmoid"))
    torch.testing.assert_close(got, (1 - sigmoid) * reverse + sigmoid * forward)
    for option, h_max in ((0.0, math.log(9)), (1.5, 1.5)):
        weight = (entropies / h_max).clamp(0, 1)
        got = LOSSES["entropy_aware"](x, Options(entropy_gate="h_max", entropy_h_max=option))
        torch.testing.assert_close(got, (1 - weight) * reverse + weight * forward)
