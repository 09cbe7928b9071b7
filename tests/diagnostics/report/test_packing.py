"""Numbers as base64, and JSON that lies in a script element."""

import base64
import json

import numpy as np
import pytest
from fixed_context.report.packing import StringTable, pack_bits, pack_half, pack_numbers, safe_json
from hypothesis import given
from hypothesis import strategies as st


def decoded(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype=dtype)


@given(st.lists(st.floats(-60000, 60000), min_size=1))
def test_a_number_is_at_most_a_twentieth_of_a_percent_off(values):
    back = decoded(pack_half(values), "<f2").astype(float)
    assert np.all(np.abs(back - values) <= np.maximum(5e-4 * np.abs(values), 3e-8))


def test_what_is_not_known_and_what_has_no_end_stay_so():
    back = decoded(pack_half([np.nan, np.inf, -np.inf, 1e9]), "<f2")
    assert np.isnan(back[0])
    assert back[1:].tolist() == [np.inf, -np.inf, np.inf]


@given(st.lists(st.integers(0, 2**24 - 1)))
def test_whole_numbers_take_three_bytes(numbers):
    raw = decoded(pack_numbers(np.array(numbers, dtype=np.int64)), np.uint8).reshape(-1, 3).astype(int)
    assert (raw @ [1, 256, 65536]).tolist() == numbers


def test_bits_come_lowest_first():
    assert decoded(
        pack_bits(np.array([True, False, False, False, False, False, False, False, True])), np.uint8
    ).tolist() == [1, 1]


def test_a_text_is_numbered_once():
    strings = StringTable()
    assert [strings.number(text) for text in ("a", "b", "a")] == [0, 1, 0]


def test_json_cannot_end_its_script_element():
    text = "</script><!--<script>&"
    packed = safe_json({"a": text})
    assert not set("<>&") & set(packed)
    assert json.loads(packed) == {"a": text}
    with pytest.raises(ValueError):
        safe_json(float("nan"))
