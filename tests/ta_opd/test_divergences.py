import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ta_opd import divergences as dv

from . import reference

seeds = st.integers(0, 2**32 - 1)
betas = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])


def pair(seed, n=4, v=7, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(n, v, generator=generator) for _ in range(2)]


def probabilities(logits, temperature=1.0):
    return [reference.softmax([z / temperature for z in row]) for row in logits.tolist()]


def assert_close(got, expected, abs=2e-6):
    assert got.tolist() == pytest.approx(expected, rel=1e-5, abs=abs)


LOSSES = {
    "forward": lambda s, t: dv.forward_kl(s, t, 1.3),
    "reverse": lambda s, t: dv.reverse_kl(s, t, 1.3),
    "jsd": lambda s, t: dv.generalized_jsd(s, t, 0.3, temperature=1.3),
    "jsd_top_k": lambda s, t: dv.generalized_jsd(s, t, 0.5, top_k=3),
    "jsd_clip": lambda s, t: dv.generalized_jsd(s, t, 0.0, token_clip=0.05),
    "skew_forward": lambda s, t: dv.skew_forward_kl(s, t, 0.2, 1.3),
    "skew_reverse": lambda s, t: dv.skew_reverse_kl(s, t, 0.2, 1.3),
    "taid": lambda s, t: dv.taid(s, t, 0.6, temperature=1.3),
    "taid_prob": lambda s, t: dv.taid(s, t, 0.6, divergence="jsd", space="prob"),
    "taid_reverse": lambda s, t: dv.taid(s, t, 0.6, divergence="reverse_kl"),
    "taid_ce": lambda s, t: dv.taid_cross_entropy(s, t, 0.6),
}


@given(seed=seeds, temperature=st.sampled_from([0.5, 1.0, 1.7]), beta=betas, v=st.integers(1, 7))
def test_divergences_match_sums_over_probabilities(seed, temperature, beta, v):
    s, t = pair(seed, v=v)
    p_s, p_t = probabilities(s, temperature), probabilities(t, temperature)
    rows = list(zip(p_s, p_t, strict=True))
    assert_close(dv.forward_kl(s, t, temperature), [reference.kl(b, a) for a, b in rows])
    assert_close(dv.reverse_kl(s, t, temperature), [reference.kl(a, b) for a, b in rows])
    jsd = dv.generalized_jsd(s, t, beta, temperature=temperature)
    assert_close(jsd, [reference.jsd(b, a, beta) for a, b in rows])
    mixtures = [([beta * q + (1 - beta) * p for p, q in zip(a, b, strict=True)], a, b) for a, b in rows]
    assert_close(dv.skew_forward_kl(s, t, beta, temperature), [reference.kl(b, m) for m, _, b in mixtures])
    assert_close(dv.skew_reverse_kl(s, t, 1 - beta, temperature), [reference.kl(a, m) for m, a, _ in mixtures])
    assert_close(dv.entropy(s), [reference.entropy(p) for p in probabilities(s)])


@given(seed=seeds, k=st.integers(1, 7), beta=betas)
def test_a_teachers_top_k_is_renormalised_on_both_sides(seed, k, beta):
    s, t = pair(seed)
    expected = []
    for p, q in zip(probabilities(s), probabilities(t), strict=True):
        kept = reference.top_k(q, k)
        q, p = reference.renormalise(kept), reference.renormalise({i: p[i] for i in kept})
        expected.append(reference.jsd(list(q.values()), list(p.values()), beta))
    assert_close(dv.generalized_jsd(s, t, beta, top_k=k), expected)


@given(seed=seeds, beta=st.floats(0, 1), scale=st.sampled_from([0.1, 2.0, 50.0]))
def test_divergences_are_bounded_up_to_rounding(seed, beta, scale):
    s, t = pair(seed, scale=scale)
    for values in (dv.forward_kl(s, t), dv.reverse_kl(s, t), dv.generalized_jsd(s, t, beta)):
        assert values.min() >= -1e-6
    assert dv.generalized_jsd(s, t, 0.5).max() <= math.log(2) + 1e-6
    for name in ("forward", "reverse", "jsd", "jsd_top_k", "jsd_clip"):
        assert LOSSES[name](s, s).abs().max() <= 1e-6, name


def test_the_ends_of_beta_are_the_two_directions_and_the_interior_vanishes_there():
    s, t = pair(1)
    assert torch.equal(dv.generalized_jsd(s, t, 0.0), dv.forward_kl(s, t))
    assert torch.equal(dv.generalized_jsd(s, t, 1.0), dv.reverse_kl(s, t))
    assert dv.generalized_jsd(s, t, 1e-6).max() < 1e-4
    for beta in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=rf"--opd-jsd-beta {beta} is outside 0\.\.1"):
            dv.generalized_jsd(s, t, beta)
    with pytest.raises(ValueError, match=r"--opd-loss-top-k 8 is outside 0\.\.7"):
        dv.generalized_jsd(s, t, top_k=8)


def test_a_clip_per_entry_can_turn_a_token_negative_and_stops_the_gradient_of_clipped_entries():
    s = torch.tensor([[0.0, 2.0, 0.5]], requires_grad=True)
    t = torch.tensor([[3.0, 0.0, -1.0]])
    p, q = probabilities(s.detach())[0], probabilities(t)[0]
    entries = [b * math.log(b / a) for a, b in zip(p, q, strict=True)]
    clipped = dv.generalized_jsd(s, t, 0.0, token_clip=0.05)
    assert clipped.item() == pytest.approx(sum(min(e, 0.05) for e in entries), abs=1e-6) and clipped.item() < 0
    clipped.sum().backward()
    live = [b for b, e in zip(q, entries, strict=True) if e < 0.05]
    for v in range(3):
        through = q[v] if entries[v] < 0.05 else 0.0
        assert s.grad[0, v].item() == pytest.approx(p[v] * sum(live) - through, abs=1e-6)


@given(seed=seeds, t=st.floats(0, 1), temperature=st.sampled_from([1.0, 1.7]))
def test_the_interpolated_teacher_is_the_geometric_or_arithmetic_mixture(seed, t, temperature):
    z_s, z_t = pair(seed)
    mixed = [
        reference.softmax([((1 - t) * a + t * b) / temperature for a, b in zip(x, y, strict=True)])
        for x, y in zip(z_s.tolist(), z_t.tolist(), strict=True)
    ]
    p_s = probabilities(z_s, temperature)
    expected = [reference.kl(q, p) for q, p in zip(mixed, p_s, strict=True)]
    assert_close(dv.taid(z_s, z_t, t, temperature=temperature), expected)
    cross = [reference.kl(q, p) + reference.entropy(q) for q, p in zip(mixed, p_s, strict=True)]
    assert_close(dv.taid_cross_entropy(z_s, z_t, t, temperature=temperature), cross, abs=5e-6)
    rows = zip(p_s, probabilities(z_t, temperature), strict=True)
    sums = [[(1 - t) * a + t * b for a, b in zip(p, q, strict=True)] for p, q in rows]
    target = dv.taid_target(dv.log_probs(z_s, temperature), dv.log_probs(z_t, temperature), t, "prob")
    assert target.exp().flatten().tolist() == pytest.approx([x for row in sums for x in row], rel=1e-4, abs=1e-7)


def test_taid_ends_at_the_plain_divergence_and_starts_at_nothing():
    s, t = pair(2, scale=4.0)
    for space in ("logit", "prob"):
        assert torch.equal(dv.taid(s, t, 1.0, space=space, temperature=1.3), dv.forward_kl(s, t, 1.3))
        assert torch.equal(dv.taid(s, t, 1, divergence="reverse_kl", space=space), dv.reverse_kl(s, t))
        jsd = dv.taid(s, t, 1.0, divergence="jsd", beta=0.3, space=space)
        assert torch.equal(jsd, dv.generalized_jsd(s, t, 0.3))
        for divergence in ("forward_kl", "reverse_kl", "jsd"):
            assert dv.taid(s, t, 0.0, divergence=divergence, space=space).abs().max() < 1e-6


def test_taid_refuses_what_it_does_not_know():
    s, t = pair(0)
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=rf"t {bad} is outside 0\.\.1"):
            dv.taid(s, t, bad)
    with pytest.raises(ValueError, match="--opd-taid-divergence 'kl' is not one of forward_kl"):
        dv.taid(s, t, 0.5, divergence="kl")
    with pytest.raises(ValueError, match="--opd-taid-space 'log' is not one of logit, prob"):
        dv.taid(s, t, 0.5, space="log")


@given(seed=seeds, t=st.sampled_from([0.0, 0.3, 1.0]))
def test_taids_gradient_is_the_distance_to_the_target(seed, t):
    s, teacher = pair(seed)
    s.requires_grad_()
    dv.taid(s, teacher, t).sum().backward()
    with torch.no_grad():
        target = torch.softmax((1 - t) * s + t * teacher, -1)
        torch.testing.assert_close(s.grad, torch.softmax(s, -1) - target, atol=2e-6, rtol=1e-4)


def test_the_entropy_gates_follow_their_formulas():
    h = torch.tensor([0.0, 0.8, 0.9, 3.0])
    ones, weight = dv.entropy_gate(h, "hard_add", tau=0.8, alpha=0.5)
    assert ones.tolist() == [1.0] * 4 and weight.tolist() == [0.0, 0.0, 0.5, 0.5]
    base, weight = dv.entropy_gate(h, "sigmoid", tau=0.8, width=0.1)
    assert weight.tolist() == pytest.approx([1 / (1 + math.exp(-(x - 0.8) / 0.1)) for x in h.tolist()], rel=1e-4)
    torch.testing.assert_close(base, 1 - weight)
    assert dv.entropy_gate(h, "h_max", h_max=2.0)[1].tolist() == pytest.approx([0, 0.4, 0.45, 1])
    for h_max in (None, 0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="--opd-entropy-h-max"):
            dv.entropy_gate(h, "h_max", h_max=h_max)
    with pytest.raises(ValueError, match="--opd-entropy-gate 'soft' is not one of hard_add, sigmoid, h_max"):
        dv.entropy_gate(h, "soft")


def test_with_the_gate_shut_the_entropy_aware_loss_is_exactly_the_base():
    base, forward = torch.randn(5), torch.tensor([1.0, torch.inf, torch.nan, 2.0, 3.0])
    shut = dv.entropy_gate(torch.zeros(5))
    assert torch.equal(dv.entropy_aware(base, forward, shut), base)


def assert_gradient_matches_float64(loss, s, t):
    analytic = s.clone().requires_grad_()
    loss(analytic, t).sum().backward()
    z, step = s.double(), 1e-3
    for index in [(n, v) for n in range(s.shape[0]) for v in range(s.shape[1])]:
        moved = [z.clone(), z.clone()]
        moved[0][index] += step
        moved[1][index] -= step
        slope = (loss(moved[0].float(), t)[index[0]] - loss(moved[1].float(), t)[index[0]]).item() / (2 * step)
        assert analytic.grad[index].item() == pytest.approx(slope, abs=3e-3), index


@pytest.mark.parametrize("name", ["forward", "reverse", "jsd", "jsd_top_k"])
def test_gradients_match_finite_differences(name):
    assert_gradient_matches_float64(LOSSES[name], *pair(3, n=2, v=5))


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_gradients_match_autograd_in_float64_over_probabilities(beta):
    s, t = pair(4)
    ours, exact = s.clone().requires_grad_(), s.double().requires_grad_()
    dv.generalized_jsd(ours, t, beta).sum().backward()
    p, q = exact.softmax(-1), t.double().softmax(-1)
    middle = beta * q + (1 - beta) * p
    interior = beta * (q * (q / middle).log()).sum() + (1 - beta) * (p * (p / middle).log()).sum()
    {0.0: (q * (q / p).log()).sum(), 1.0: (p * (p / q).log()).sum()}.get(beta, interior).backward()
    torch.testing.assert_close(ours.grad.double(), exact.grad, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_divergence_has_no_gradient_into_the_teacher_and_a_finite_one_into_the_student(name):
    s, t = (z.requires_grad_() for z in pair(5))
    LOSSES[name](s, t).sum().backward()
    assert t.grad is None and s.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_the_float32_result_of_the_upcast_input(name, dtype):
    s, t = (z.to(dtype) for z in pair(6))
    result = LOSSES[name](s, t)
    assert result.dtype == torch.float32 and torch.equal(result, LOSSES[name](s.float(), t.float()))


@pytest.mark.parametrize("name", LOSSES)
def test_impossible_tokens_cost_a_finite_amount_and_get_no_gradient(name):
    s, t = pair(7)
    s[0, :2], t[0, 2:4], t[1, 1:], s[2, :6] = (-torch.inf,) * 4
    s.requires_grad_()
    values = LOSSES[name](s, t)
    assert values.isfinite().all()
    values.sum().backward()
    assert s.grad.isfinite().all() and not s.grad[s == -torch.inf].any()


@pytest.mark.parametrize("name", LOSSES)
def test_leading_axes_and_no_tokens_at_all_keep_their_shape(name):
    s, t = pair(8, n=6)
    grid = LOSSES[name](s.reshape(2, 3, 7), t.reshape(2, 3, 7))
    torch.testing.assert_close(grid, LOSSES[name](s, t).reshape(2, 3))
    assert LOSSES[name](s[:0], t[:0]).shape == (0,)


@pytest.mark.parametrize("mask", [-math.inf, -1e4, -1e9, torch.finfo(torch.float32).min])
def test_a_masked_token_costs_the_same_however_the_mask_is_written(mask):
    student = torch.tensor([[1.0, 0.0, mask, 0.5]], requires_grad=True)
    teacher = torch.tensor([[0.5, mask, 0.3, 0.0]])
    for loss in (dv.forward_kl, dv.reverse_kl, dv.generalized_jsd):
        reference = loss(student.detach().nan_to_num().clamp_min(-500), teacher.clamp_min(-500))
        value = loss(student, teacher)
        (gradient,) = torch.autograd.grad(value.sum(), student)
        assert value.item() == pytest.approx(reference.item(), rel=1e-5)
        assert gradient.isfinite().all()
        assert gradient.norm() < 100


def test_forward_kl_on_the_teachers_top_is_renormalised_against_the_whole_student():
    student, teacher = torch.tensor([[0.3, -0.2, 1.0, 0.1]]), torch.tensor([[2.0, 1.0, -1.0, 0.0]])
    p, q = torch.softmax(teacher.double(), -1)[0, :2], torch.softmax(student.double(), -1)[0, :2]
    p = p / p.sum()
    expected = float((p * (p / q).log()).sum())
    assert dv.forward_kl(student, teacher, top_k=2).item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(dv.forward_kl(student, teacher, top_k=0), dv.forward_kl(student, teacher))
