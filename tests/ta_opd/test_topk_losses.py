import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ta_opd import TopK, masked_mean
from ta_opd.divergences import forward_kl, generalized_jsd
from ta_opd.row_losses import row_losses
from ta_opd.row_plan import DIVERGENCES, Divergence, EntropyGate, RowPlan
from ta_opd.row_statistics import topk_rows
from ta_opd.row_statistics.topk_buckets import FORMS
from ta_opd.topk_losses import topk_losses
from ta_opd.vocab_parallel import VocabShard

from . import reference as plain
from . import row_reference as reference

UPSTREAM = ("loss", "student_logprob", "student_entropy")
V = 9
BASES = [None, *(Divergence(kind, 0.3) for kind in DIVERGENCES), Divergence("jsd", 0.3, 0.05)]
GATES = (None, EntropyGate("hard_add", tau=1.0, alpha=0.7), EntropyGate("sigmoid", tau=1.0, width=0.3))
TARGETS = ((1.0, "logit"), (0.4, "logit"), (0.4, "prob"))
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(params=["softmax kept", "recomputed"])
def path(request, monkeypatch):
    monkeypatch.setattr(topk_rows, "LEAST_COLUMNS", 1 if request.param == "softmax kept" else 10**9)


def token_list(rows, k=None):
    """A TopK of {id: log-prob} rows or of lists of such pairs."""
    rows = [list(row.items()) if isinstance(row, dict) else row for row in rows]
    k = max([k or 0, *(len(row) for row in rows)])
    topk = TopK.missing(len(rows), k)
    for i, row in enumerate(rows):
        for j, (token, logprob) in enumerate(row):
            topk.ids[i, j], topk.logprobs[i, j] = token, logprob
    return topk


def case(seed=0, n=6, k=4, v=V):
    """(student logits, lists of {id: log-prob}, tokens) of a teacher's k best."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (2 * torch.randn(n, v, generator=generator) for _ in range(2))
    topk = TopK.from_logits(teacher, k)
    pairs = zip(topk.ids.tolist(), topk.logprobs.tolist(), strict=True)
    lists = [dict(zip(ids, logprobs, strict=True)) for ids, logprobs in pairs]
    return student, lists, torch.randint(0, v, (n,), generator=generator)


def gradient(student, upstream, compute):
    leaf = student.clone().requires_grad_()
    result = compute(leaf)
    sum((getattr(result, name) * weight).sum() for name, weight in upstream.items()).backward()
    return result, leaf.grad


def assert_reference(student, topk, lists, tokens, plan, form, names=UPSTREAM, vocabulary=None):
    upstream = {name: torch.linspace(-1, 2, len(student)) for name in names}
    shard = None if vocabulary is None else VocabShard(None, 0, vocabulary)
    result, grad = gradient(
        student, upstream, lambda z: topk_losses(z, topk, plan, form=form, token_ids=tokens, shard=shard)
    )
    whole = student[:, : vocabulary or student.shape[1]]
    close = {"rtol": 1e-5, "atol": 2e-5, "equal_nan": True}
    for name, values in reference.topk_losses(whole.double(), lists, plan, form, tokens).items():
        torch.testing.assert_close(getattr(result, name).double(), values, **close, msg=lambda m, name=name: name + m)
    exact = reference.gradient(whole, upstream, lambda z: reference.topk_losses(z, lists, plan, form, tokens))
    torch.testing.assert_close(grad[:, : whole.shape[1]].double(), exact, **close)
    assert not grad[:, whole.shape[1] :].any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("base", BASES, ids=str)
def test_values_and_gradients_are_the_formulas(path, form, base):
    for index, (t, space) in enumerate(TARGETS):
        gate = GATES[(index + BASES.index(base)) % 3] or (GATES[1] if base is None else None)
        temperature = 1.0 if form == "tail" or index == 1 else 1.7
        student, lists, tokens = case(index)
        plan = RowPlan(base, gate, t, space, temperature)
        names = (UPSTREAM, UPSTREAM[:1], UPSTREAM[:2])[index]
        assert_reference(student, token_list(lists), lists, tokens, plan, form, names)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("t", [1.0, 0.9])
def test_impossible_tokens_count_as_the_floor_and_have_no_gradient(path, form, t):
    student, lists, tokens = case(1)
    listed = [list(row) for row in lists]
    student[0, listed[0][0]], student[1, listed[1][2]], student[2, 0] = -torch.inf, -300.0, -torch.inf
    tokens[0] = listed[0][0]
    for base in BASES[1:4]:
        assert_reference(student, token_list(lists), lists, tokens, RowPlan(base, None, t), form)


@pytest.mark.parametrize("form", FORMS)
def test_repeated_and_foreign_ids_do_not_count_and_padding_is_no_token(path, form):
    student, lists, tokens = case(2)
    padded = torch.cat([student, torch.full((6, 3), torch.nan)], 1)
    messy = [[*row.items(), *list(row.items())[:2], (V, -0.5), (V + 1000, -1.0), (-7, -0.1)] for row in lists]
    plan = RowPlan(Divergence("jsd", 0.3), GATES[2])
    assert_reference(padded, token_list(messy), lists, tokens, plan, form, vocabulary=V)


@pytest.mark.parametrize("form", FORMS)
def test_a_list_above_1_is_scaled_to_1_and_an_empty_one_is_unknown(path, form):
    student, lists, tokens = case(3)
    lists[1] = {token: math.log(1.02 / 4) for token in lists[1]}
    assert_reference(student, token_list(lists), lists, tokens, RowPlan(Divergence("jsd")), form)
    lists[4] = {}
    topk = token_list(lists)
    leaf = student.clone().requires_grad_()
    result = topk_losses(leaf, topk, RowPlan(Divergence("jsd")), form=form, token_ids=tokens)
    for name in ("loss", "teacher_entropy", "forward_kl", "reverse_kl", "cross_entropy", "teacher_logprob"):
        assert getattr(result, name)[4].isnan() and getattr(result, name)[0].isfinite() | (name == "teacher_logprob")
    known = torch.arange(6) != 4
    masked_mean(result.loss, known).backward()
    assert leaf.grad.isfinite().all() and not leaf.grad[4].any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("k", [0, 3])
def test_lists_without_entries_and_batches_without_rows(path, form, k):
    student, _, tokens = case(4)
    for n in (6, 0):
        leaf = student[:n].clone().requires_grad_()
        result = topk_losses(leaf, TopK.missing(n, k), RowPlan(Divergence("jsd")), form=form, token_ids=tokens[:n])
        assert result.loss.shape == (n,) and result.loss.isnan().all() and result.student_logprob.isfinite().all()
        result.loss[:0].sum().backward()
        assert leaf.grad.shape == (n, V) and not leaf.grad.any()


@settings(max_examples=15)
@given(seed=seeds, k=st.integers(1, V), scale=st.sampled_from([0.01, 1.0, 30.0]), t=st.sampled_from([1.0, 0.5]))
def test_with_a_tail_a_divergence_is_never_negative_and_0_at_the_same_distribution(seed, k, scale, t):
    student, _, _ = case(seed)
    teacher = scale * torch.randn(6, V, generator=torch.Generator().manual_seed(seed))
    for kind in DIVERGENCES:
        plan = RowPlan(Divergence(kind, 0.3), None, t)
        assert topk_losses(scale * student, TopK.from_logits(teacher, k), plan).loss.min() > -1e-5
        same = topk_losses(teacher, TopK.from_logits(teacher, k), plan).loss
        assert same.abs().max() < 2e-5


@settings(max_examples=15)
@given(seed=seeds, kind=st.sampled_from(DIVERGENCES), t=st.sampled_from([1.0, 0.4]))
def test_with_every_token_listed_the_tail_form_is_the_full_divergence(seed, kind, t):
    student, _, _ = case(seed)
    teacher = 2 * torch.randn(6, V, generator=torch.Generator().manual_seed(seed))
    plan, upstream = RowPlan(Divergence(kind, 0.3), None, t), {"loss": torch.ones(6)}
    full, exact = gradient(student, upstream, lambda z: row_losses(z, teacher, plan))
    listed, grad = gradient(student, upstream, lambda z: topk_losses(z, TopK.from_logits(teacher, V), plan))
    torch.testing.assert_close(listed.loss, full.loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad, exact, rtol=1e-4, atol=1e-5)


@settings(max_examples=15)
@given(seed=seeds, k=st.integers(1, V), tau=st.sampled_from([1.0, 1.3]))
def test_the_other_forms_are_those_of_divergences(seed, k, tau):
    student, _, _ = case(seed)
    teacher = 2 * torch.randn(6, V, generator=torch.Generator().manual_seed(seed))
    lists = TopK.from_logits(teacher, k)
    jsd = topk_losses(student, lists, RowPlan(Divergence("jsd", 0.3), temperature=tau), form="renormalised").loss
    expected = generalized_jsd(student, teacher, 0.3, temperature=tau, top_k=k)
    torch.testing.assert_close(jsd, expected, rtol=1e-5, atol=1e-5)
    full = topk_losses(student, lists, RowPlan(Divergence("forward_kl"), temperature=tau), form="student_full").loss
    torch.testing.assert_close(full, forward_kl(student, teacher, tau, top_k=k), rtol=1e-5, atol=1e-5)


def test_a_tail_bucket_holds_what_both_sides_leave():
    student, lists, _ = case(6, n=3)
    loss = topk_losses(student, token_list(lists), RowPlan(Divergence("reverse_kl"))).loss
    for logits, row, value in zip(student.tolist(), lists, loss.tolist(), strict=True):
        p, q = plain.softmax(logits), {token: math.exp(logprob) for token, logprob in row.items()}
        buckets = [*(p[token] for token in q), 1 - sum(p[token] for token in q)], [*q.values(), 1 - sum(q.values())]
        assert value == pytest.approx(plain.kl(*buckets), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_rows_left_out_are_not_read_and_get_a_gradient_of_exactly_0(path, form, poison):
    student, lists, tokens = case(7)
    keep = torch.tensor([True, False, True, False, True, True])
    topk, plan = token_list(lists), RowPlan(Divergence("jsd"), GATES[2])
    expected = topk_losses(student[keep], topk.rows(keep), plan, form=form, token_ids=tokens[keep])
    student[~keep] = poison
    topk.logprobs[~keep] = poison
    leaf = student.clone().requires_grad_()
    result = topk_losses(leaf, topk, plan, form=form, keep=keep, token_ids=tokens)
    for got, values in zip(result, expected, strict=True):
        torch.testing.assert_close(got[keep], values, rtol=1e-6, atol=1e-6, equal_nan=True)
        assert got[~keep].isnan().all()
    masked_mean(result.loss + 0.1 * result.student_entropy, keep).backward()
    assert leaf.grad.isfinite().all() and not leaf.grad[~keep].any() and leaf.grad[keep].any()


@pytest.mark.parametrize("form", FORMS)
def test_a_second_backward_gives_the_same_gradient_and_leaves_the_logits_alone(path, form):
    student, lists, tokens = case(8)
    leaf, before = student.clone().requires_grad_(), student.clone()
    result = topk_losses(leaf, token_list(lists), RowPlan(Divergence("jsd")), form=form, token_ids=tokens)
    loss = result.loss + 0.5 * result.student_logprob
    (first,) = torch.autograd.grad(loss.sum(), leaf, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(loss.sum(), leaf)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    assert torch.equal(first, kept) and torch.equal(leaf.detach(), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_near_convergence_values_and_gradients_keep_their_precision(path, dtype, kind):
    generator = torch.Generator().manual_seed(9)
    teacher = (2.5 * torch.randn(2, 20_000, generator=generator)).to(dtype)
    teacher[:, :40] += 8
    student = (teacher.float() + 0.28 * torch.randn(2, 20_000, generator=generator)).to(dtype)
    topk = TopK.from_logits(teacher, 32)
    lists = [dict(zip(i, p, strict=True)) for i, p in zip(topk.ids.tolist(), topk.logprobs.tolist(), strict=True)]
    plan, upstream = RowPlan(Divergence(kind)), {"loss": torch.tensor([0.3, 1.7])}
    result, grad = gradient(student, upstream, lambda z: topk_losses(z, topk, plan))
    tokens = torch.zeros(2, dtype=torch.long)
    exact = reference.topk_losses(student.double(), lists, plan, "tail", tokens)["loss"]
    assert ((result.loss - exact) / exact).abs().max() < 2.5e-3
    slopes = reference.gradient(student, upstream, lambda z: reference.topk_losses(z, lists, plan, "tail", tokens))
    # One listed token may be most of the gradient, and bfloat16 rounds it by up to 2^-8.
    assert ((grad.double() - slopes).norm(dim=1) / slopes.norm(dim=1)).max() < 4e-3 and grad.dtype == dtype


def test_what_does_not_fit_is_refused():
    student, lists, _ = case()
    plan = RowPlan(Divergence("forward_kl"))
    with pytest.raises(ValueError, match="form 'tails' of a top-k loss is not one of tail, renormalised, student_full"):
        topk_losses(student, token_list(lists), plan, form="tails")
    with pytest.raises(ValueError, match="5 top-k lists do not fit 6 rows"):
        topk_losses(student, token_list(lists[:5]), plan)
    with pytest.raises(ValueError, match=r"--opd-loss-temperature 1\.3 needs a renormalised list"):
        topk_losses(student, token_list(lists), RowPlan(Divergence("forward_kl"), temperature=1.3))


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 1.0, 4.0]), form=st.sampled_from(FORMS))
def test_the_gate_reads_a_bound_of_the_teachers_entropy_that_a_longer_list_tightens(seed, scale, form):
    logits = scale * torch.randn(4, 60, generator=torch.Generator().manual_seed(seed))
    logprobs = torch.log_softmax(logits.double(), -1)
    exact, before = -(logprobs.exp() * logprobs).sum(-1), torch.zeros(4, dtype=torch.float64)
    for k in (1, 4, 20, 60):
        plan = RowPlan(Divergence("forward_kl"))
        found = topk_losses(logits, TopK.from_logits(logits, k), plan, form=form).teacher_entropy.double()
        assert bool((found <= exact + 1e-4).all()) and bool((found >= before - 1e-4).all())
        before = found
    torch.testing.assert_close(before, exact, atol=1e-4, rtol=0)


def test_the_gate_opens_for_a_teacher_that_is_spread_beyond_its_list():
    logits = 0.1 * torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))
    plan = RowPlan(None, EntropyGate("hard_add", tau=0.8))
    result = topk_losses(logits, TopK.from_logits(logits, 16), plan)
    assert bool((result.gate == 1).all()) and bool((result.teacher_entropy > 8).all())


@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["forward_kl", "reverse_kl", "jsd"]))
def test_with_a_tail_a_divergence_is_never_negative_even_between_equals(seed, kind):
    logits = 30 * torch.randn(6, 40, generator=torch.Generator().manual_seed(seed))
    result = topk_losses(logits, TopK.from_logits(logits, 8), RowPlan(Divergence(kind)))
    assert float(min(result.loss.min(), result.forward_kl.min(), result.reverse_kl.min())) >= 0
    assert float(result.loss.max()) < 1e-4


def test_an_entropy_that_is_given_is_what_the_gate_reads():
    student, lists, _ = case(0)
    exact = torch.linspace(0, 2, len(student))
    keep = torch.arange(len(student)) != 2
    plan = RowPlan(Divergence("reverse_kl"), EntropyGate("hard_add", tau=0.8))
    result = topk_losses(student, token_list(lists), plan, keep=keep, teacher_entropy=exact)
    assert torch.equal(result.teacher_entropy[keep], exact[keep])
    assert torch.equal(result.gate[keep], (exact[keep] > 0.8).float())
    torch.testing.assert_close(result.loss[keep], (result.reverse_kl + result.gate * result.forward_kl)[keep])
