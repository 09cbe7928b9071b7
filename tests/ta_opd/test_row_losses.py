import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ta_opd import divergences, masked_mean
from ta_opd.row_losses import row_losses
from ta_opd.row_plan import DIVERGENCES, Divergence, EntropyGate, RowPlan
from ta_opd.row_statistics import function
from ta_opd.row_statistics.chunks import CACHED_ELEMENTS
from ta_opd.vocab_parallel import VocabShard

from . import row_reference as reference

UPSTREAM = ("loss", "student_logprob", "student_entropy")
GATES = (
    None,
    EntropyGate("hard_add", tau=1.5, alpha=0.7),
    EntropyGate("sigmoid", tau=1.5, width=0.3),
    EntropyGate("h_max", h_max=3.0),
)
BASES = [None, *(Divergence(kind, 0.3, clip) for kind in DIVERGENCES for clip in (math.inf, 0.05))]
TARGETS = ((1.0, "logit"), (0.4, "logit"), (0.9, "logit"), (0.4, "prob"))
PLANS = [
    RowPlan(base, gate, t, space, temperature)
    for base, gate, (t, space), temperature in itertools.product(BASES, GATES, TARGETS, (1.0, 1.7))
    if base is not None or gate is not None
]
SOME_PLANS = PLANS[::43]
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(params=["one_pass", "blocks"])
def path(request, monkeypatch):
    """Both ways a CPU goes: row by row with the gradient at once, or blocks of rows with the gradient later."""
    monkeypatch.setattr(function, "LEAST_COLUMNS", 1 if request.param == "one_pass" else 10**9)
    return request.param


def pair(seed=0, n=6, v=9, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (scale * torch.randn(n, v, generator=generator) for _ in range(2))
    return student, teacher, torch.randint(0, v, (n,), generator=generator)


def at_the_floor(seed=0):
    """Rows with impossible tokens, tokens far below LOG_FLOOR and a far dominating one, and their sampled tokens."""
    student, teacher, tokens = pair(seed)
    student[0, 3] = student[4, :3] = teacher[0, 5] = teacher[2, 1] = -torch.inf
    student[1, 2], teacher[1, 2], student[3, 0], teacher[5, 4] = -300.0, -400.0, 120.0, -1e9
    tokens[0], tokens[1], tokens[2] = 3, 2, 1
    return student, teacher, tokens


def weights(seed, n, names):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(n, generator=generator) for name in names}


def gradient(student, upstream, compute):
    leaf = student.clone().requires_grad_()
    result = compute(leaf)
    sum((getattr(result, name) * weight).sum() for name, weight in upstream.items()).backward()
    return result, leaf.grad


def assert_reference(student, teacher, tokens, plan, names):
    upstream = weights(1, len(student), names)
    result, grad = gradient(student, upstream, lambda z: row_losses(z, teacher, plan, token_ids=tokens))
    for name, values in reference.row_losses(student.double(), teacher, plan, tokens).items():
        got = getattr(result, name).double()
        torch.testing.assert_close(got, values, rtol=1e-5, atol=2e-5, msg=lambda m, name=name: f"{plan} {name} {m}")
    exact = reference.gradient(student, upstream, lambda z: reference.row_losses(z, teacher, plan, tokens))
    torch.testing.assert_close(grad.double(), exact, rtol=2e-5, atol=2e-5, msg=lambda m: f"{plan} {names} {m}")


@pytest.mark.parametrize("base", BASES, ids=str)
def test_values_and_gradients_are_the_formulas_also_at_the_floor(path, base):
    for index, plan in enumerate(plan for plan in PLANS if plan.base == base):
        if index % 3 == 0:
            assert_reference(*pair(index), plan, (UPSTREAM, UPSTREAM[:1], UPSTREAM[1:])[index // 3 % 3])
        if index % 3 == 1:
            assert_reference(*at_the_floor(index), plan, UPSTREAM if index // 3 % 3 else UPSTREAM[:1])


@settings(max_examples=15)
@given(seed=seeds, v=st.integers(1, 12), n=st.integers(0, 5), scale=st.sampled_from([0.05, 2.0, 40.0]))
def test_the_losses_are_those_of_divergences(seed, v, n, scale):
    student, teacher, _ = pair(seed, n, v, scale)
    close = {"rtol": 1e-5, "atol": 1e-5}
    for tau in (1.0, 1.3):
        for kind, loss in (("forward_kl", divergences.forward_kl), ("reverse_kl", divergences.reverse_kl)):
            got = row_losses(student, teacher, RowPlan(Divergence(kind), temperature=tau)).loss
            torch.testing.assert_close(got, loss(student, teacher, tau), **close)
        jsd = row_losses(student, teacher, RowPlan(Divergence("jsd", 0.3, 0.05), temperature=tau)).loss
        expected = divergences.generalized_jsd(student, teacher, 0.3, temperature=tau, token_clip=0.05)
        torch.testing.assert_close(jsd, expected, **close)
        for space in ("logit", "prob"):
            result = row_losses(student, teacher, RowPlan(Divergence("jsd", 0.5), None, 0.6, space, tau))
            expected = divergences.taid(student, teacher, 0.6, divergence="jsd", space=space, temperature=tau)
            torch.testing.assert_close(result.loss, expected, **close)
            cross = divergences.taid_cross_entropy(student, teacher, 0.6, space=space, temperature=tau)
            torch.testing.assert_close(result.cross_entropy, cross, **close)
    assert torch.equal(result.loss.isfinite(), torch.ones(n).bool())


@settings(max_examples=15)
@given(seed=seeds, kind=st.sampled_from(DIVERGENCES), t=st.sampled_from([0.3, 1.0]))
def test_gradients_are_slopes_of_the_loss(seed, kind, t):
    student, teacher, _ = pair(seed, 2, 5, 1.0)
    plan = RowPlan(Divergence(kind, 0.3))
    exact = reference.gradient(student, {"loss": torch.ones(2)}, lambda z: reference.row_losses(z, teacher, plan, ZERO))
    step = 1e-4
    for row, column in itertools.product(range(2), range(5)):
        moved = torch.zeros(2, 5, dtype=torch.float64)
        moved[row, column] = step
        up, down = (
            reference.row_losses(student.double() + sign * moved, teacher, plan, ZERO)["loss"][row] for sign in (1, -1)
        )
        assert exact[row, column].item() == pytest.approx((up - down).item() / (2 * step), abs=1e-6)
    plan = RowPlan(Divergence(kind, 0.3), None, t)
    _, grad = gradient(student, {"loss": torch.ones(2)}, lambda z: row_losses(z, teacher, plan))
    exact = reference.gradient(student, {"loss": torch.ones(2)}, lambda z: reference.row_losses(z, teacher, plan, ZERO))
    torch.testing.assert_close(grad.double(), exact, rtol=1e-4, atol=2e-6)


ZERO = torch.zeros(2, dtype=torch.long)


@pytest.mark.parametrize("plan", SOME_PLANS, ids=str)
def test_a_row_does_not_depend_on_its_neighbours_or_on_the_blocks(path, plan, monkeypatch):
    student, teacher, tokens = at_the_floor(3)
    upstream = weights(2, 6, UPSTREAM)

    def everything(order):
        chosen = {name: weight[order] for name, weight in upstream.items()}
        compute = lambda z: row_losses(z, teacher[order], plan, token_ids=tokens[order])  # noqa: E731
        result, grad = gradient(student[order], chosen, compute)
        return torch.stack([*result, *grad.T])

    whole = everything(torch.arange(6))
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    torch.testing.assert_close(everything(order), whole[:, order], rtol=1e-6, atol=1e-6)
    parts = torch.cat([everything(torch.arange(0, 2)), everything(torch.arange(2, 6))], 1)
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-6)
    for elements in (1, 18, 27):
        monkeypatch.setitem(CACHED_ELEMENTS, "cpu", elements)
        torch.testing.assert_close(everything(torch.arange(6)), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("base", BASES[1:], ids=str)
def test_taid_at_1_is_the_plain_loss_and_a_shut_gate_the_base_bit_for_bit(path, base):
    student, teacher, tokens = at_the_floor(5)
    shut = EntropyGate("hard_add", tau=100.0)
    plain = RowPlan(base)
    for plan in (RowPlan(base, None, 1.0, "logit"), RowPlan(base, None, 1.0, "prob"), RowPlan(base, shut)):
        for names in (UPSTREAM[:1], UPSTREAM):
            upstream = weights(3, 6, names)
            results = [
                gradient(student, upstream, lambda z, p=p: row_losses(z, teacher, p, token_ids=tokens))
                for p in (plain, plan)
            ]
            (expected, exact), (got, grad) = results
            assert torch.equal(grad, exact)
            assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("plan", SOME_PLANS, ids=str)
def test_rows_left_out_are_not_read_and_get_a_gradient_of_exactly_0(path, plan, poison):
    student, teacher, tokens = pair(7)
    keep = torch.tensor([True, False, True, True, False, True])
    upstream = weights(4, 6, UPSTREAM)

    def masked(leaf):
        result = row_losses(leaf, teacher, plan, keep=keep, token_ids=tokens)
        return result._replace(**{name: getattr(result, name).where(keep, 0) for name in UPSTREAM})

    exact = [row_losses(student[keep], teacher[keep], plan, token_ids=tokens[keep]).loss]
    student[~keep], teacher[~keep] = poison, poison
    result, grad = gradient(student, upstream, masked)
    assert grad.isfinite().all() and not grad[~keep].any()
    torch.testing.assert_close(result.loss[keep], exact[0], rtol=1e-6, atol=1e-6)
    plain = row_losses(student, teacher, plan, keep=keep, token_ids=tokens)
    assert all(values[~keep].isnan().all() and values[keep].isfinite().all() for values in plain)
    leaf = student.clone().requires_grad_()
    mean = masked_mean(row_losses(leaf, teacher, plan, keep=keep).loss, keep)
    mean.backward()
    assert mean.item() == pytest.approx(exact[0].mean().item(), rel=1e-5, abs=1e-6)
    assert leaf.grad.isfinite().all() and not leaf.grad[~keep].any()


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_a_row_without_upstream_gradient_gets_none_whatever_it_holds(path, poison):
    student, teacher, tokens = pair(8)
    student[1], teacher[3] = poison, poison
    keep = torch.tensor([True, False, True, False, True, True])
    for names in (UPSTREAM[:1], UPSTREAM):
        upstream = {name: torch.where(keep, 2.0, 0.0) for name in names}
        leaf = student.clone().requires_grad_()
        result = row_losses(leaf, teacher, RowPlan(Divergence("jsd")), token_ids=tokens)
        torch.autograd.backward([getattr(result, name) for name in names], list(upstream.values()))
        assert leaf.grad.isfinite().all() and not leaf.grad[~keep].any() and leaf.grad[keep].any()
        assert result.loss[~keep].isnan().all()


@pytest.mark.parametrize("plan", SOME_PLANS, ids=str)
def test_padding_columns_hold_anything_and_get_no_gradient(path, plan):
    student, teacher, tokens = at_the_floor(9)
    upstream = weights(5, 6, UPSTREAM)
    garbage = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30]).expand(6, 4)
    padded = [torch.cat([z, garbage], 1) for z in (student, teacher)]
    shard = VocabShard(None, 0, 9)
    expected, exact = gradient(student, upstream, lambda z: row_losses(z, teacher, plan, token_ids=tokens))
    got, grad = gradient(padded[0], upstream, lambda z: row_losses(z, padded[1], plan, token_ids=tokens, shard=shard))
    torch.testing.assert_close(grad[:, :9], exact, rtol=1e-6, atol=1e-6)
    assert not grad[:, 9:].any()
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_a_second_backward_gives_the_same_gradient_and_leaves_the_logits_alone(path):
    student, teacher, tokens = pair(10)
    leaf, before = student.clone().requires_grad_(), (student.clone(), teacher.clone())
    result = row_losses(leaf, teacher, RowPlan(Divergence("jsd"), GATES[2]), token_ids=tokens)
    upstream = torch.rand(6)
    (first,) = torch.autograd.grad(result.loss, leaf, upstream, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(result.loss, leaf, upstream, retain_graph=True)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    assert torch.equal(first, kept)
    assert torch.equal(leaf.detach(), before[0]) and torch.equal(teacher, before[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("base", [Divergence("forward_kl"), Divergence("reverse_kl"), Divergence("jsd")], ids=str)
def test_near_convergence_values_and_gradients_keep_their_precision(path, dtype, base):
    generator = torch.Generator().manual_seed(12)
    teacher = (2.5 * torch.randn(3, 20_000, generator=generator)).to(dtype)
    student = (teacher.float() + 0.28 * torch.randn(3, 20_000, generator=generator)).to(dtype)
    upstream = {"loss": torch.tensor([0.3, 1.7, 1.0])}
    result, grad = gradient(student, upstream, lambda z: row_losses(z, teacher, RowPlan(base)))
    tokens = torch.zeros(3, dtype=torch.long)
    exact = reference.row_losses(student.double(), teacher, RowPlan(base), tokens)
    assert 0.02 < exact["forward_kl"].mean() < 0.06
    assert ((result.loss - exact["loss"]) / exact["loss"]).abs().max() < 2.5e-3
    slopes = reference.gradient(student, upstream, lambda z: reference.row_losses(z, teacher, RowPlan(base), tokens))
    assert grad.dtype == dtype and result.loss.dtype == torch.float32
    assert ((grad.double() - slopes).norm(dim=1) / slopes.norm(dim=1)).max() < 3e-3


def test_only_the_inputs_are_kept_for_the_backward(path):
    saved = []
    student, teacher, tokens = pair(13)
    student.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.data_ptr()) or x, lambda x: x):
        result = row_losses(student, teacher, RowPlan(Divergence("jsd")), token_ids=tokens)
    assert set(saved) == {student.data_ptr(), teacher.data_ptr()}
    with torch.no_grad():
        assert not row_losses(student, teacher, RowPlan(Divergence("jsd"))).loss.requires_grad
    assert result.loss.requires_grad and result.student_entropy.requires_grad
    assert not result.forward_kl.requires_grad and not result.gate.requires_grad


@pytest.mark.parametrize("n", [0, 1])
def test_no_rows_and_none_kept_have_a_gradient_of_nothing(path, n):
    student, teacher, tokens = pair(14, n)
    keep = torch.zeros(n, dtype=torch.bool)
    for plan in SOME_PLANS:
        leaf = student.clone().requires_grad_()
        result = row_losses(leaf, teacher, plan, keep=keep, token_ids=tokens)
        assert all(values.shape == (n,) and values.isnan().all() for values in result)
        masked_mean(result.loss, keep).backward()
        assert leaf.grad.shape == (n, 9) and not leaf.grad.any()


def test_a_token_that_is_none_has_no_log_prob_and_no_gradient(path):
    student, teacher, _ = pair(15)
    tokens = torch.tensor([-1, 9, 0, 3, 8, 2])
    leaf = student.clone().requires_grad_()
    result = row_losses(leaf, teacher, RowPlan(Divergence("forward_kl")), token_ids=tokens)
    unknown = torch.tensor([True, True, False, False, False, False])
    assert torch.equal(result.student_logprob.isnan(), unknown) and torch.equal(result.teacher_logprob.isnan(), unknown)
    result.student_logprob.nansum().backward()
    assert not leaf.grad[unknown].any() and leaf.grad[~unknown].all()
    assert row_losses(student, teacher, RowPlan(Divergence("forward_kl"))).student_logprob is None


def test_what_does_not_fit_is_refused():
    student, teacher, tokens = pair()
    plan = RowPlan(Divergence("forward_kl"))
    for bad, message in (
        ({"teacher_logits": teacher[:, :5]}, r"teacher logits \(6, 5\) do not fit the student's \(6, 9\)"),
        ({"student_logits": student.double()}, "float32, bfloat16 or float16"),
        ({"keep": torch.ones(6)}, r"keep is a mask, bool \[6\]; got torch.float32"),
        ({"keep": torch.ones(5).bool()}, r"got torch.bool \(5,\)"),
        ({"token_ids": tokens[:5]}, r"token ids are integer \[6\]; got torch.int64 \(5,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            row_losses(**({"student_logits": student, "teacher_logits": teacher, "plan": plan} | bad))
