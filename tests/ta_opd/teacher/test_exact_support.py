import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ta_opd.teacher.exact_support import known_on_student, look_up, union_of


def ids(*rows):
    return np.array(rows, np.int32)


def test_the_union_has_each_id_once_ascending_and_only_those_the_teacher_has():
    union = union_of(ids([7, 3, -1], [3, 9, 12]), vocabulary=12, most=3, overflow="error")
    assert union.ids.tolist() == [3, 7, 9] and union.ids.dtype == np.int32 and not union.overflowed


def test_a_union_of_nothing_is_empty():
    assert not len(union_of(ids([-1, -1]), 10, 1, "error").ids)
    assert not len(union_of(np.empty((0, 4), np.int32), 10, 1, "error").ids)


@pytest.mark.parametrize("overflow", ["fallback", "error"])
def test_a_larger_union_asks_nothing(overflow):
    union = union_of(ids([1, 2], [1, 3]), 10, 2, overflow)
    assert union.overflowed and not len(union.ids)


def test_a_larger_union_is_cut_to_the_most_frequent_ids_then_the_smaller_ones():
    union = union_of(ids([5, 4, 2], [5, 3, 2], [5, 3, 4]), 10, 2, "truncate")
    assert union.overflowed and union.ids.tolist() == [2, 5]


@given(st.data())
def test_look_up_finds_what_a_search_through_each_row_finds(data):
    n, u, k = (data.draw(st.integers(1, 4)) for _ in range(3))
    rows = st.lists(st.integers(0, 9), min_size=u, max_size=u, unique=True)
    answered = np.array([data.draw(rows) for _ in range(n)], np.int32)
    logprobs = data.draw(hnp.arrays(np.float32, (n, u), elements=st.floats(-50, 0, width=32)))
    wanted = data.draw(hnp.arrays(np.int32, (n, k), elements=st.integers(-1, 10)))
    expected = [
        [dict(zip(answered[r].tolist(), logprobs[r].tolist(), strict=True)).get(i, np.nan) for i in wanted[r].tolist()]
        for r in range(n)
    ]
    np.testing.assert_array_equal(look_up(answered, logprobs, wanted), np.array(expected, np.float32))


def test_look_up_where_nothing_was_answered_is_nan():
    found = look_up(np.empty((2, 0), np.int32), np.empty((2, 0), np.float32), ids([1], [2]))
    assert np.isnan(found).all()
    entries_left_empty = look_up(ids([-1, 4]), np.array([[np.nan, -2.0]], np.float32), ids([-1, 4]))
    np.testing.assert_array_equal(entries_left_empty, np.float32([[np.nan, -2.0]]))


def test_an_id_the_teacher_cannot_emit_has_probability_zero_and_one_not_asked_stays_unknown():
    known = known_on_student(ids([3, 10, 11, -1]), 11, np.float32([[-1.0, np.nan, np.nan, np.nan]]))
    np.testing.assert_array_equal(known, np.float32([[-1.0, np.nan, -np.inf, np.nan]]))
    np.testing.assert_array_equal(known_on_student(ids([3, 11]), 11, None), np.float32([[np.nan, -np.inf]]))
