import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ta_opd.teacher.answer import TeacherFault
from ta_opd.teacher.wire import Question, decode

from .fake_teacher import FakeTeacher, base64_form, flat_form, nested

V = 40
TEACHER = FakeTeacher(V)


def question(length=5, prompt=3, top_k=4, seed=0, **more):
    tokens = np.random.default_rng(seed).integers(0, V, prompt + length)
    return Question(tokens, length, top_k, V, **more)


def answer(asked, form="nested"):
    offers = {"nested": (), "flat": ("flat",), "base64": ("base64",)}[form]
    return FakeTeacher(V, offers).answer(json.loads(asked.body()))


def encoded(value):
    return json.dumps(value).encode()


def reason_of(value, asked):
    with pytest.raises(TeacherFault) as fault:
        decode(value if isinstance(value, bytes) else encoded(value), asked)
    assert len(fault.value.detail) <= 200
    return fault.value.reason


def slow_reference(value, asked):
    """Entry by entry, from the nested form."""
    meta, n = value["meta_info"], asked.response_length
    logprobs = [math.nan if entry[0] is None else entry[0] for entry in meta["input_token_logprobs"][-n:]]
    ids = np.full((n, asked.top_k), -1, np.int32)
    values = np.full((n, asked.top_k), -math.inf, np.float32)
    for r, row in enumerate(meta["input_top_logprobs"][-n:]):
        for c, (logprob, token, _) in enumerate(row or []):
            if logprob is not None:
                ids[r, c], values[r, c] = token, logprob
    return np.array(logprobs, np.float32), ids, values


@pytest.mark.parametrize("form", ["nested", "flat", "base64"])
@given(length=st.integers(1, 12), prompt=st.integers(1, 4), top_k=st.integers(1, V + 3), seed=st.integers(0, 9))
def test_every_form_gives_the_arrays_of_a_slow_reference(form, length, prompt, top_k, seed):
    asked = question(length, prompt, top_k, seed)
    logprobs, ids, values = slow_reference(answer(asked), asked)
    found = decode(encoded(answer(asked, form)), asked)
    assert found.wire == form
    for got, expected in ((found.signal.logprobs, logprobs), (found.signal.topk.ids, ids)):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(found.signal.topk.logprobs, values)
    assert found.signal.on_student is None and not found.signal.failure


def test_the_request_starts_one_token_before_the_response():
    asked = question(length=5, prompt=3, top_k=4)
    body = json.loads(asked.body())
    assert body["input_ids"] == asked.tokens.tolist() and body["logprob_start_len"] == 2
    assert body["sampling_params"]["max_new_tokens"] == 0 and body["return_logprob"] is True
    assert body["top_logprobs_num"] == 4
    assert not {"image_data", "token_ids_logprob"} & set(body)


@pytest.mark.parametrize("wire, flat, b64", [("nested", 0, 0), ("flat", 1, 0), ("base64", 1, 1), ("auto", 1, 1)])
def test_the_form_asked_for(wire, flat, b64):
    body = json.loads(question(wire=wire).body())
    assert ("return_flat_raw_top_logprobs" in body, "return_flat_raw_top_logprobs_b64" in body) == (flat, b64)


def test_without_top_k_only_sampled_log_probs_are_asked_for():
    asked = question(top_k=0)
    assert not {"top_logprobs_num", "return_flat_raw_top_logprobs"} & set(json.loads(asked.body()))
    found = decode(encoded(answer(asked)), asked)
    assert found.wire == "" and found.signal.topk.k == 0 and np.isfinite(found.signal.logprobs).all()


def test_a_top_k_beyond_the_vocabulary_is_asked_for_within_it_and_padded():
    asked = question(top_k=V + 2)
    assert json.loads(asked.body())["top_logprobs_num"] == V
    topk = decode(encoded(answer(asked)), asked).signal.topk
    assert topk.k == V + 2 and (topk.ids[:, V:] == -1).all() and (topk.logprobs[:, V:] == -np.inf).all()


@pytest.mark.parametrize("shuffled", [False, True])
def test_exact_c_is_the_dense_log_prob_at_the_students_ids(shuffled):
    student = np.array([[3, -1, 39], [0, 3, 7], [39, 40, 41], [5, 6, 3], [-1, -1, -1]], np.int32)
    asked = question(5, student_ids=student, asked_ids=np.array([0, 3, 5, 6, 7, 39], np.int32))
    value = answer(asked)
    if shuffled:
        rows = value["meta_info"]["input_token_ids_logprobs"]
        rows[1:] = [row[r:] + row[:r] for r, row in enumerate(rows[1:])]
    dense = TEACHER.logprobs(asked.tokens, 5)
    expected = np.take_along_axis(dense, student.clip(0, V - 1), 1)
    expected[student < 0], expected[student >= V] = np.nan, -np.inf
    found = decode(encoded(value), asked).signal.on_student
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_an_asked_id_that_is_not_answered_stays_unknown():
    student = np.full((5, 1), 3, np.int32)
    asked = question(5, student_ids=student, asked_ids=np.array([3, 4], np.int32))
    value = answer(asked)
    value["meta_info"]["input_token_ids_logprobs"][2] = [[-1.0, 4, None]]
    value["meta_info"]["input_token_ids_logprobs"][3] = [[None, 3, None], [-1.0, 4, None]]
    found = decode(encoded(value), asked).signal.on_student[:, 0]
    assert np.isnan(found).tolist() == [False, True, True, False, False]


def test_null_nan_and_minus_infinity():
    asked = question()
    value = answer(asked)
    meta = value["meta_info"]
    for r, logprob in ((1, None), (2, math.nan), (3, -math.inf)):
        meta["input_token_logprobs"][r][0] = logprob
        meta["input_top_logprobs"][r][1][0] = logprob
    signal = decode(encoded(value), asked).signal
    assert np.isnan(signal.logprobs).tolist() == [True, True, False, False, False]
    assert signal.logprobs[2] == -np.inf
    held = meta["input_top_logprobs"][3][1][1]
    assert signal.topk.ids[:3, 1].tolist() == [-1, -1, held] and (signal.topk.logprobs[:3, 1] == -np.inf).all()
    assert (signal.topk.ids[:, 0] >= 0).all()


@pytest.mark.parametrize("form", [flat_form, base64_form])
def test_nan_and_minus_infinity_in_a_flat_form(form):
    asked = question(2, top_k=2)
    value = answer(asked)
    values, ids = np.array([[-0.5, np.nan], [-1.0, -np.inf]], np.float32), np.array([[1, 2], [3, 4]])
    value["meta_info"] |= form(values, ids)
    topk = decode(encoded(value), asked).signal.topk
    assert topk.ids.tolist() == [[1, -1], [3, 4]]
    np.testing.assert_array_equal(topk.logprobs, np.float32([[-0.5, -np.inf], [-1.0, -np.inf]]))


def test_a_row_that_is_null_is_a_token_of_which_nothing_is_known():
    asked = question()
    value = answer(asked)
    value["meta_info"]["input_top_logprobs"][2] = None
    topk = decode(encoded(value), asked).signal.topk
    assert (topk.ids[1] == -1).all() and (topk.ids[[0, 2, 3, 4]] >= 0).all()


def test_a_server_that_puts_image_tokens_into_the_prompt_sends_more_positions():
    asked = question(images=("aGk=",))
    assert json.loads(asked.body())["image_data"] == ["aGk="]
    value = answer(asked)
    meta, extra = value["meta_info"], 6
    meta["prompt_tokens"] += extra
    meta["input_token_logprobs"][1:1] = [[-1.0, 9, None]] * extra
    meta["input_top_logprobs"][1:1] = [[[-1.0, 9, None]]] * extra
    with_images = decode(encoded(value), asked).signal
    without = decode(encoded(answer(asked)), asked).signal
    np.testing.assert_array_equal(with_images.logprobs, without.logprobs)
    np.testing.assert_array_equal(with_images.topk.ids, without.topk.ids)
    assert reason_of(value, question()) == "long"


@pytest.mark.parametrize(
    "body, reason",
    [
        (b"", "malformed"),
        (b"<html>", "malformed"),
        (b"[]", "malformed"),
        (b'{"meta_info": NaN}', "malformed"),
        (b'{"text": ""}', "malformed"),
        (b'{"meta_info": {}}', "malformed"),
        (b'{"error": {"message": "out of memory"}}', "server_error"),
        (b'{"object": "error", "message": "out of memory"}', "server_error"),
        (b'{"meta_info": {"finish_reason": {"type": "abort", "message": "by the operator"}}}', "aborted"),
    ],
)
def test_answers_without_numbers(body, reason):
    assert reason_of(body, question()) == reason


def put(name, value):
    return lambda meta: meta.__setitem__(name, value)


def sampled(row, entry):
    return lambda meta: meta["input_token_logprobs"].__setitem__(row, entry)


def top(row, column, entry):
    return lambda meta: meta["input_top_logprobs"][row].__setitem__(column, entry)


@pytest.mark.parametrize(
    "change, reason",
    [
        (put("prompt_tokens", 7), "truncated"),
        (lambda meta: meta["input_token_logprobs"].pop(), "short"),
        (lambda meta: meta["input_token_logprobs"].append([-1.0, 1, None]), "long"),
        (lambda meta: meta["input_top_logprobs"].pop(), "short"),
        (lambda meta: meta["input_top_logprobs"].append(None), "long"),
        (put("input_token_logprobs", None), "malformed"),
        (put("input_top_logprobs", None), "malformed"),
        (put("input_top_logprobs", [None, 1, 2, 3, 4, 5]), "malformed"),
        (sampled(3, [-1.0, V - 1, None]), "misaligned"),
        (sampled(3, [-1.0]), "malformed"),
        (sampled(3, ["-1.0", 3, None]), "malformed"),
        (lambda meta: meta["input_token_logprobs"][3].__setitem__(0, 0.5), "malformed"),
        (top(2, 0, [0.5, 3, None]), "malformed"),
        (top(2, 0, [-1.0, V, None]), "malformed"),
        (top(2, 0, [-1.0, -2, None]), "malformed"),
        (top(2, 0, [-1.0, 2**31, None]), "malformed"),
        (top(2, 0, [-1.0, 1.5, None]), "malformed"),
        (top(2, 0, [-1.0, 3]), "malformed"),
        (lambda meta: meta["input_top_logprobs"][2].__setitem__(1, meta["input_top_logprobs"][2][0]), "malformed"),
        (lambda meta: meta["input_top_logprobs"][2].append([-20.0, 3, None]), "malformed"),
        (put("input_top_logprobs", nested(np.full((5, 4), -0.9), np.tile(np.arange(4), (5, 1)))), "malformed"),
    ],
)
def test_what_an_answer_can_have_wrong(change, reason):
    asked = question()
    value = answer(asked)
    decode(encoded(value), asked)
    change(value["meta_info"])
    assert reason_of(value, asked) == reason


def test_a_misaligned_answer_says_where():
    asked = question()
    value = answer(asked)
    value["meta_info"]["input_token_logprobs"][3][1] = 39
    with pytest.raises(TeacherFault, match=f"response token 2 is {asked.tokens[5]}, the answer has 39"):
        decode(encoded(value), asked)


def test_the_last_id_of_the_vocabulary_may_come_back_as_zero():
    asked = Question(np.array([1, 2, V - 1, V - 2]), 2, 2, V)
    value = answer(asked)
    assert [entry[1] for entry in value["meta_info"]["input_token_logprobs"]] == [2, 0, V - 2]
    assert decode(encoded(value), asked).signal.logprobs[0] == TEACHER.table[2, V - 1]
    value["meta_info"]["input_token_logprobs"][2][1] = 0
    assert reason_of(value, asked) == "misaligned"


@pytest.mark.parametrize("form", [flat_form, base64_form])
@pytest.mark.parametrize(
    "name, change, reason",
    [
        ("input_top_logprobs_shape", lambda shape: [shape[0] - 1, shape[1]], "malformed"),
        ("input_top_logprobs_shape", lambda shape: None, "malformed"),
        ("input_top_logprobs_null_prefix", lambda prefix: prefix + 1, "long"),
        ("input_top_logprobs_null_prefix", lambda prefix: prefix - 1, "short"),
    ],
)
def test_what_a_flat_form_can_have_wrong(form, name, change, reason):
    asked = question(2, top_k=2)
    value = answer(asked)
    flat = form(np.array([[-0.9, -1.5]] * 2), np.array([[1, 2]] * 2))
    value["meta_info"] |= flat | {name: change(flat[name])}
    assert reason_of(value, asked) == reason


@pytest.mark.parametrize(
    "name, value",
    [
        ("input_top_logprobs_val_flat_b64_dtype", "bfloat16"),
        ("input_top_logprobs_val_flat_b64", "AAAA"),
        ("input_top_logprobs_val_flat_b64", "!"),
        ("input_top_logprobs_idx_flat_b64", None),
    ],
)
def test_what_a_base64_form_can_have_wrong(name, value):
    asked = question(2, top_k=2)
    wrong = answer(asked)
    wrong["meta_info"] |= base64_form(np.array([[-0.9, -1.5]] * 2), np.array([[1, 2]] * 2)) | {name: value}
    assert reason_of(wrong, asked) == "malformed"
