import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ta_opd import Supports, TopK
from ta_opd.support import LOG_FLOOR
from ta_opd.union import align

from . import reference

seeds = st.integers(0, 2**32 - 1)


def logits(seed, n, v, scale=3.0):
    return scale * torch.randn(n, v, generator=torch.Generator().manual_seed(seed))


@given(seed=seeds, n=st.integers(0, 5), v=st.integers(1, 12), data=st.data())
def test_the_list_holds_the_k_most_probable_tokens_and_ties_go_to_the_smaller_id(seed, n, v, data):
    k = data.draw(st.integers(1, v))
    z = logits(seed, n, v).round()
    topk = TopK.from_logits(z, k)
    topk.check(vocabulary=v)
    for row, ids, logprobs in zip(z.tolist(), topk.ids.tolist(), topk.logprobs.tolist(), strict=True):
        expected = reference.top_k(reference.softmax(row), k)
        assert ids == sorted(range(v), key=lambda i: (-row[i], i))[:k]
        assert [math.exp(x) for x in logprobs] == pytest.approx(list(expected.values()), rel=1e-5)


def test_impossible_tokens_enter_the_list_last_and_in_the_order_of_their_ids():
    z = torch.full((1, 6), -torch.inf)
    z[0, 4] = 0.0
    topk = TopK.from_logits(z, 6)
    assert topk.ids.tolist() == [[4, 0, 1, 2, 3, 5]]
    assert topk.logprobs.tolist() == [[0.0] + [-math.inf] * 5]


@pytest.mark.parametrize("k", [0, -1, 5])
def test_a_k_outside_the_vocabulary_is_refused(k):
    with pytest.raises(ValueError, match=rf"--opd-topk-metrics-k {k} is outside 1\.\.4"):
        TopK.from_logits(torch.zeros(2, 4), k)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_the_list_of_the_upcast_logits(dtype):
    z = logits(3, 6, 40).to(dtype)
    ours, upcast = TopK.from_logits(z, 5), TopK.from_logits(z.float(), 5)
    assert torch.equal(ours.ids, upcast.ids) and torch.equal(ours.logprobs, upcast.logprobs)


@pytest.mark.parametrize(
    ("ids", "logprobs", "message"),
    [
        ([[1, 9]], [[-1.0, -1.0]], "outside the vocabulary"),
        ([[3, 3]], [[-1.0, -1.0]], "twice"),
        ([[1, 2]], [[-1.0, math.nan]], "NaN or above 0"),
        ([[1, 2]], [[0.5, -4.0]], "NaN or above 0"),
        ([[1, 2]], [[-0.3, -0.3]], "sums to 1.48"),
    ],
)
def test_check_refuses_what_no_distribution_gives(ids, logprobs, message):
    with pytest.raises(ValueError, match=message):
        TopK(torch.tensor(ids), torch.tensor(logprobs)).check(vocabulary=9)


def test_check_reads_nothing_from_empty_entries():
    TopK(torch.tensor([[2, -1, -1]]), torch.tensor([[-0.5, math.nan, 7.0]])).check(vocabulary=3)
    TopK.missing(0, 3).check()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        TopK(torch.zeros(2, 3, dtype=torch.int32), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="teacher_on_student has shape"):
        Supports(TopK.missing(2, 3), TopK.missing(2, 4), teacher_on_student=torch.zeros(2, 4))
    with pytest.raises(ValueError, match="teacher has shape"):
        Supports(TopK.missing(2, 3), TopK.missing(1, 3))


@given(seed=seeds, k_s=st.integers(1, 8), k_t=st.integers(1, 8), asked=st.booleans())
def test_the_union_carries_both_sides_and_imputes_what_is_not_known(seed, k_s, k_t, asked):
    z_s, z_t = logits(seed, 3, 8), logits(seed + 1, 3, 8)
    p_s, p_t = [reference.softmax(r) for r in z_s.tolist()], [reference.softmax(r) for r in z_t.tolist()]
    lists_s, lists_t = [reference.top_k(p, k_s) for p in p_s], [reference.top_k(p, k_t) for p in p_t]
    supports = Supports(TopK.from_logits(z_s, k_s), TopK.from_logits(z_t, k_t))
    if asked:
        on_s = torch.log_softmax(z_t, -1).gather(1, supports.student.ids.long())
        on_t = torch.log_softmax(z_s, -1).gather(1, supports.teacher.ids.long())
        supports = Supports(supports.student, supports.teacher, on_s, on_t)
    union = align(supports)
    for n in range(3):
        known = (dict(enumerate(p_t[n])), dict(enumerate(p_s[n]))) if asked else (None, None)
        s, t = reference.on_union(lists_s[n], lists_t[n], *known)
        ids = torch.cat([supports.student.ids[n], supports.teacher.ids[n]])[union.present[:, n]].tolist()
        assert len(ids) == len(set(ids)) and set(ids) == set(s)
        assert union.student[union.present[:, n], n].exp().tolist() == pytest.approx(
            [s[i] for i in ids], rel=1e-4, abs=1e-6
        )
        assert union.teacher[union.present[:, n], n].exp().tolist() == pytest.approx(
            [t[i] for i in ids], rel=1e-4, abs=1e-6
        )
        assert union.shared[:, n].tolist() == [i in lists_t[n] for i in supports.student.ids[n].tolist()]


@pytest.mark.parametrize("k_t", [255, 256, 300])
def test_long_teacher_lists_are_matched_to_their_last_entry(k_t):
    student = reference.token_list([{k_t - 1: 0.5}])
    teacher = reference.token_list([{i: (2.0 if i == k_t - 1 else 1.0) / (2 * k_t) for i in range(k_t)}])
    union = align(Supports(student, teacher))
    assert union.shared.tolist() == [[True]]
    assert union.teacher[0].exp().item() == pytest.approx(1 / k_t, rel=1e-5)
    assert int(union.present.sum()) == k_t


def test_a_partly_asked_teacher_is_imputed_only_where_the_answer_is_missing():
    student, teacher = reference.token_list([{0: 0.5, 1: 0.3}]), reference.token_list([{5: 0.6, 6: 0.1}])
    union = align(Supports(student, teacher, teacher_on_student=torch.tensor([[math.log(0.05), math.nan]])))
    assert union.teacher_known[:, 0].tolist() == [True, False]
    assert union.teacher[0, 0].exp().item() == pytest.approx(0.05, rel=1e-5)
    assert 0 < union.teacher[1, 0].exp().item() <= 0.1 + 1e-6


def test_zero_probabilities_are_read_as_the_floor():
    z = torch.tensor([[0.0, -torch.inf, -torch.inf]])
    union = align(Supports.from_logits(z, z.roll(1, 1), 2))
    assert float(union.student.min()) == float(union.teacher.min()) == LOG_FLOOR
    assert bool(union.student.isfinite().all() and union.teacher.isfinite().all())


@given(seed=seeds, v=st.integers(1, 9))
def test_full_vocabulary_numbers_match_the_definitions(seed, v):
    z_s, z_t = logits(seed, 4, v), logits(seed + 1, 4, v)
    supports = Supports.from_logits(z_s, z_t, v)
    for n in range(4):
        s, t = reference.softmax(z_s[n].tolist()), reference.softmax(z_t[n].tolist())
        assert supports.student_entropy[n].item() == pytest.approx(reference.entropy(s), abs=2e-6)
        assert supports.teacher_entropy[n].item() == pytest.approx(reference.entropy(t), abs=2e-6)
        assert supports.reverse_kl[n].item() == pytest.approx(reference.kl(s, t), rel=1e-5, abs=1e-6)


def test_logits_in_training_give_scores_without_a_graph():
    supports = Supports.from_logits(logits(0, 3, 6).requires_grad_(), logits(1, 3, 6), 2)
    assert not supports.student.logprobs.requires_grad and not supports.reverse_kl.requires_grad


def test_samples_join_and_split_again_and_a_half_known_field_is_refused():
    whole = Supports.from_logits(logits(0, 6, 7), logits(1, 6, 7), 3)
    parts = [whole.rows(slice(0, 4)), whole.rows(slice(4, 4)), whole.rows(slice(4, 6))]
    joined = Supports.concat(parts)
    assert len(joined) == 6 and torch.equal(joined.teacher.ids, whole.teacher.ids)
    assert torch.equal(joined.reverse_kl, whole.reverse_kl)
    bare = Supports(whole.student, whole.teacher)
    with pytest.raises(ValueError, match="teacher_on_student is known for some samples only"):
        Supports.concat([whole, bare])


def test_answered_mass_outside_the_list_is_not_shared_out_again():
    """The teacher's list holds 0.6, and one of three missing tokens was answered with 0.3: 0.1 is left for two."""
    student = TopK(torch.tensor([[1, 2, 3]]), torch.tensor([[0.5, 0.3, 0.2]]).log())
    teacher = TopK(torch.tensor([[7, 8]]), torch.tensor([[0.4, 0.2]]).log())
    asked = torch.tensor([[0.3, math.nan, math.nan]]).log()
    union = align(Supports(student, teacher, teacher_on_student=asked))
    assert union.teacher[:3, 0].exp().tolist() == pytest.approx([0.3, 0.05, 0.05])


@given(seed=st.integers(0, 10_000))
def test_answers_asked_for_in_part_never_spoil_what_the_lists_already_say(seed):
    """NaN means not known, on either side and at any entry: shared, missing from the other list, or empty."""
    generator = torch.Generator().manual_seed(seed)
    full = Supports.from_logits(logits(seed, 6, 9), logits(seed + 1, 6, 9), 4)
    empty = torch.rand(6, 4, generator=generator) < 0.2
    teacher = TopK(full.teacher.ids.masked_fill(empty, -1), full.teacher.logprobs)
    holes = [torch.rand(6, 4, generator=generator) < 0.5 for _ in range(2)]
    asked = Supports(
        full.student,
        teacher,
        teacher_on_student=full.teacher_on_student.masked_fill(holes[0], math.nan),
        student_on_teacher=full.student_on_teacher.masked_fill(holes[1], math.nan),
    )
    union = align(asked)
    assert union.student.isfinite().all()
    assert union.teacher.isfinite().all()
    k = union.student_k
    known = ~holes[1].T & union.present[k:]
    assert torch.equal(union.student[k:][known], full.student_on_teacher.T.clamp_min(LOG_FLOOR)[known])
    nothing = align(Supports(full.student, teacher, None, torch.full_like(full.student_on_teacher, math.nan)))
    plain = align(Supports(full.student, teacher))
    assert torch.equal(nothing.student, plain.student)
    assert torch.equal(nothing.imputed, plain.imputed)
