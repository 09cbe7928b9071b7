import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ta_opd.carrier import pack, unpack
from ta_opd.support import TopK

HOLES = st.sampled_from([math.nan, -math.inf, math.inf])
logprobs = st.floats(-80, 0, width=32) | HOLES


@st.composite
def tokens(draw):
    """Rows of (teacher's log-prob, weight, valid) that keep the invariant of pack."""
    rows = []
    for teacher, valid, weight in draw(
        st.lists(st.tuples(logprobs, st.booleans(), st.floats(0, 1e6, width=32)), max_size=12)
    ):
        rows.append((teacher, weight if valid and math.isfinite(teacher) else 0.0, valid))
    teacher, weight, valid = zip(*rows, strict=True) if rows else ((), (), ())
    return torch.tensor(teacher), torch.tensor(weight), torch.tensor(valid, dtype=torch.bool)


@given(given_tokens=tokens())
def test_what_is_packed_is_unpacked_to_the_bit(given_tokens):
    teacher, weight, valid = given_tokens
    rows = pack(teacher, weight, valid)
    assert rows.dtype == torch.float32 and rows.shape == (len(teacher), 2)
    carried = unpack(rows, torch.zeros_like(valid))
    assert torch.equal(carried.teacher_logprob.view(torch.int32), teacher.float().view(torch.int32))
    assert torch.equal(carried.weight, weight) and torch.equal(carried.valid, valid)
    assert torch.equal(carried.known, teacher.isfinite()) and torch.equal(carried.kept, weight > 0)


@given(given_tokens=tokens(), data=st.data())
def test_any_slice_of_the_rows_unpacks_to_the_slice_of_the_parts(given_tokens, data):
    teacher, weight, valid = given_tokens
    n = len(teacher)
    index = torch.tensor(data.draw(st.lists(st.integers(0, n - 1), max_size=n)) if n else [], dtype=torch.long)
    rows = pack(teacher, weight, valid)
    part, whole = unpack(rows[index], valid[index]), unpack(rows, valid)
    for name in ("weight", "valid", "known", "kept"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[index])


def test_a_valid_token_of_weight_zero_stays_apart_from_one_that_may_not_be_trained_on():
    carried = unpack(pack(torch.tensor([-1.0, -1.0]), torch.zeros(2), torch.tensor([True, False])), torch.ones(2) > 0)
    assert carried.valid.tolist() == [True, False]
    assert carried.weight.tolist() == [0, 0] and carried.kept.tolist() == [False, False]


@pytest.mark.parametrize(
    ("teacher", "weight", "valid"),
    [
        (-1.0, 1.0, False),
        (math.nan, 1.0, True),
        (-math.inf, 1.0, True),
        (-1.0, -0.5, True),
        (-1.0, math.nan, True),
    ],
    ids=["not valid", "no teacher", "no probability", "negative", "no number"],
)
def test_a_weight_that_cannot_be_is_an_invariant_broken(teacher, weight, valid):
    with pytest.raises(AssertionError):
        pack(torch.tensor([-1.0, teacher]), torch.tensor([0.0, weight]), torch.tensor([True, valid]))


def test_float64_and_bfloat16_numbers_are_carried_as_float32():
    rows = pack(torch.tensor([-0.1], dtype=torch.float64), torch.tensor([2.0], dtype=torch.bfloat16), torch.ones(1) > 0)
    assert rows.dtype == torch.float32
    assert rows.tolist() == [[torch.tensor(-0.1).item(), 2.0]]


def test_plain_log_probs_are_valid_by_the_loss_mask_and_weigh_one_where_known():
    rows, mask = torch.tensor([-1.0, math.nan, -math.inf, -2.0]), torch.tensor([True, True, True, False])
    carried = unpack(rows, mask)
    assert carried.valid.tolist() == mask.tolist()
    assert carried.weight.tolist() == [1, 0, 0, 0]
    assert carried.known.tolist() == [True, False, False, True]


@pytest.mark.parametrize("shape", [(), (3, 1), (3, 3), (3, 2, 2), (0, 3)])
def test_another_shape_is_refused_with_the_shape(shape):
    with pytest.raises(ValueError, match=r"teacher_log_probs has shape .*; this trainer reads \[R\] or \[R, 2\]"):
        unpack(torch.zeros(shape), torch.ones(shape[:1]) > 0)


@pytest.mark.parametrize("shape", [(0, 2), (0,)])
def test_a_response_without_tokens_has_nothing(shape):
    carried = unpack(torch.zeros(shape), torch.zeros(0, dtype=torch.bool))
    assert len(carried.weight) == len(carried.valid) == len(carried.known) == 0


def lists_of(n, k, first=0):
    ids = torch.arange(n * k, dtype=torch.int32).reshape(n, k) + first
    return TopK(ids, -torch.rand(n, k))


@given(n=st.integers(0, 6), k=st.integers(1, 5), data=st.data())
def test_lists_travel_with_their_tokens_to_the_bit(n, k, data):
    lists, valid = lists_of(n, k), torch.ones(n, dtype=torch.bool)
    lists.ids[: n // 2, 0], lists.logprobs[: n // 2, 0] = -1, -torch.inf
    weight = (lists.ids >= 0).any(1).float()
    rows = pack(-torch.rand(n), weight, valid, lists)
    assert rows.dtype == torch.float32 and rows.shape == (n, 2 + 2 * k)
    index = torch.tensor(data.draw(st.lists(st.integers(0, n - 1), max_size=n)) if n else [], dtype=torch.long)
    found = unpack(rows[index])
    assert torch.equal(found.topk.ids, lists.ids[index]) and found.topk.ids.dtype == torch.int32
    assert torch.equal(found.topk.logprobs, lists.logprobs[index])
    assert torch.equal(found.weight, weight[index])


@pytest.mark.parametrize("largest", [2**24 - 1, 2**24])
def test_ids_that_float32_cannot_hold_are_refused(largest):
    lists = TopK(torch.tensor([[largest, 0]], dtype=torch.int32), torch.zeros(1, 2))
    arguments = torch.zeros(1), torch.ones(1), torch.ones(1, dtype=torch.bool), lists
    if largest < 2**24:
        assert unpack(pack(*arguments)).topk.ids[0, 0] == largest
    else:
        with pytest.raises(ValueError, match="token id 16777216: a vocabulary of at most 16777216 can be carried"):
            pack(*arguments)


def test_a_distilled_token_without_an_entry_is_an_invariant_broken():
    lists = TopK.missing(1, 3)
    assert unpack(pack(torch.zeros(1), torch.zeros(1), torch.ones(1) > 0, lists)).topk.k == 3
    with pytest.raises(AssertionError):
        pack(torch.zeros(1), torch.ones(1), torch.ones(1) > 0, lists)
