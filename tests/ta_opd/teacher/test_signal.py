import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ta_opd.support import NO_TOKEN
from ta_opd.teacher.signal import TeacherSignal, TopKRows

sizes = st.integers(0, 5)


def rows(n, k, seed=0):
    rng = np.random.default_rng(seed)
    return TopKRows(rng.integers(0, 99, (n, k)).astype(np.int32), -rng.random((n, k)).astype(np.float32))


@given(n=sizes, k=sizes)
def test_missing_rows_hold_no_token_and_no_probability(n, k):
    missing = TopKRows.missing(n, k)
    assert len(missing) == n and missing.k == k
    assert missing.ids.dtype == np.int32 and (missing.ids == NO_TOKEN).all()
    assert missing.logprobs.dtype == np.float32 and (missing.logprobs == -np.inf).all()


@given(a=sizes, b=sizes, c=sizes, k=sizes)
def test_segments_follow_one_another_and_grouping_does_not_matter(a, b, c, k):
    first, second, third = rows(a, k, 1), rows(b, k, 2), rows(c, k, 3)
    left, right = first.then(second).then(third), first.then(second.then(third))
    assert np.array_equal(left.ids, right.ids) and np.array_equal(left.logprobs, right.logprobs)
    assert np.array_equal(left.ids, np.concatenate([first.ids, second.ids, third.ids]))
    assert np.array_equal(left.logprobs, np.concatenate([first.logprobs, second.logprobs, third.logprobs]))
    assert left.ids.dtype == np.int32 and left.logprobs.dtype == np.float32


def test_then_leaves_its_parts_as_they_were():
    first = rows(2, 3)
    kept = first.ids.copy()
    joined = first.then(TopKRows.missing(1, 3))
    joined.ids[0, 0] = 1234
    assert np.array_equal(first.ids, kept)


@given(n=sizes, k=sizes)
def test_an_absent_answer_says_why_and_knows_nothing(n, k):
    signal = TeacherSignal.absent(n, k, "timeout")
    assert signal.failure == "timeout" and len(signal) == n and signal.topk.k == k
    assert signal.logprobs.dtype == np.float32 and np.isnan(signal.logprobs).all()
    assert (signal.topk.ids == NO_TOKEN).all() and signal.on_student is None


def test_an_answer_has_no_failure_unless_given():
    assert TeacherSignal(np.zeros(2, np.float32), rows(2, 1)).failure == ""


@pytest.mark.parametrize(
    "build",
    [
        lambda: TopKRows(np.zeros((2, 3), np.int32), np.zeros((2, 2), np.float32)),
        lambda: TopKRows(np.zeros(3, np.int32), np.zeros(3, np.float32)),
        lambda: TeacherSignal(np.zeros(3, np.float32), rows(2, 4)),
        lambda: TeacherSignal(np.zeros((2, 1), np.float32), rows(2, 4)),
        lambda: TeacherSignal(np.zeros(2, np.float32), rows(2, 4), np.zeros((1, 4), np.float32)),
    ],
    ids=["widths", "flat", "top-k rows", "column", "rows at the student's ids"],
)
def test_rows_that_do_not_match_the_response_are_an_invariant_broken(build):
    with pytest.raises(AssertionError):
        build()


def test_rows_of_another_width_do_not_follow():
    with pytest.raises(ValueError):
        rows(1, 2).then(rows(1, 3))
