import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ta_opd.teacher.nested_rows import blocks


@given(data=st.data())
def test_rows_of_any_shape_give_what_entry_by_entry_reading_gives(data):
    entry = st.tuples(
        st.none() | st.floats(-(2.0**100), 0, width=32),
        st.integers(0, 2**31 - 1),
        st.sampled_from([None, "a,]", "[null"]),
    )
    width = data.draw(st.integers(1, 4))
    rows = data.draw(st.lists(st.none() | st.lists(entry, max_size=width), min_size=1, max_size=6))
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    ids = np.full((len(rows), width), -1, np.int32)
    values = np.full((len(rows), width), np.nan, np.float32)
    for r, row in enumerate(rows):
        for c, (logprob, token, _) in enumerate(row or []):
            ids[r, c], values[r, c] = token, math.nan if logprob is None else logprob
    texts = [json.dumps(row, separators=separators).encode() for row in rows]
    found = list(blocks(texts, width))
    np.testing.assert_array_equal(np.concatenate([block[1] for block in found]), ids)
    np.testing.assert_array_equal(np.concatenate([block[2] for block in found]), values)


def test_many_rows_come_in_several_blocks_in_order():
    rows = [f"[[-{r}.5,{r},null],[-{r}e-3,7,null]]".encode() for r in range(20_000)]
    starts, ids, values = zip(*blocks(rows, 2), strict=True)
    assert len(starts) > 1 and starts[0] == 0
    np.testing.assert_array_equal(np.concatenate(ids)[:, 0], np.arange(20_000))
    np.testing.assert_array_equal(np.concatenate(values)[:, 0], -(np.arange(20_000) + 0.5))


def test_a_row_that_is_wider_than_asked_for_is_refused():
    with pytest.raises(ValueError, match="a row has 2 entries; 1 were asked for"):
        list(blocks([b"[[-1.5,3,null],[-2.5,4,null]]"], 1))
