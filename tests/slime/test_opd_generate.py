import asyncio
import copy
import logging
import math
from argparse import Namespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slime.rollout import opd_generate, sglang_rollout
from slime.rollout.opd_generate import generate, record_student_topk, topk_rows
from slime.rollout.tip_compat import student_topk
from slime.utils.types import Sample
from ta_opd.support import NO_TOKEN

K = 3


def entry(token, place):
    """A stated log-prob of a token, different for each."""
    return (-0.5 * token - 0.25 * place, 10 * token + place, None)


def answer(tokens, listed=True, finish="stop"):
    meta = {
        "output_token_logprobs": [(-0.1 * t, t, None) for t in tokens],
        "finish_reason": {"type": finish},
    }
    if listed:
        meta["output_top_logprobs"] = [[entry(t, place) for place in range(K)] for t in tokens]
    return {"text": "", "meta_info": meta}


def ids_of(tokens):
    return [[10 * t + place for place in range(K)] for t in tokens]


class Server:
    """Answers in order; remembers what it was asked."""

    def __init__(self, *answers):
        self.answers, self.payloads = list(answers), []

    async def post(self, url, payload, max_retries=60, headers=None):
        self.payloads.append(copy.deepcopy(payload))
        return self.answers.pop(0)


@pytest.fixture
def serve(monkeypatch):
    def put(*answers):
        server = Server(*answers)
        monkeypatch.setattr(sglang_rollout, "post", server.post)
        return server

    return put


def run(sample, k=K, evaluation=False, tokens=20):
    args = Namespace(opd_topk_metrics_k=k)
    return asyncio.run(generate(args, sample, {"max_new_tokens": tokens}, evaluation=evaluation))


def prompt():
    return Sample(tokens=[7, 8], group_index=0, index=0)


def test_a_request_of_training_asks_for_the_top_k_and_the_sample_keeps_it(serve):
    server = serve(answer([4, 5]))
    sample = run(prompt())
    assert [p["top_logprobs_num"] for p in server.payloads] == [K]
    assert sample.opd_student.ids.tolist() == ids_of([4, 5]) and sample.opd_student.ids.dtype == np.int32
    assert sample.opd_student.logprobs.tolist() == [[entry(t, p)[0] for p in range(K)] for t in (4, 5)]
    assert sample.response_length == 2 and sample.opd_evaluation is False


@pytest.mark.parametrize(("k", "evaluation"), [(K, True), (0, False)])
def test_evaluation_and_a_run_without_top_k_send_slimes_own_request(serve, k, evaluation):
    server = serve(answer([4], listed=False))
    sample = run(prompt(), k, evaluation)
    assert "top_logprobs_num" not in server.payloads[0]
    assert not hasattr(sample, "opd_student") and sample.opd_evaluation is evaluation


def test_the_rest_of_the_request_is_slimes(serve):
    server = serve(answer([4]), answer([4], listed=False))
    run(prompt())
    asyncio.run(sglang_rollout.generate(Namespace(), prompt(), {"max_new_tokens": 20}))
    assert {k: v for k, v in server.payloads[0].items() if k != "top_logprobs_num"} == server.payloads[1]


def test_slimes_module_is_left_as_it_is(serve):
    server = serve(answer([4]))
    before = dict(vars(sglang_rollout))
    run(prompt())
    assert vars(sglang_rollout) == before and sglang_rollout.post == server.post


def test_two_samples_at_once_keep_their_own_lists(serve):
    serve(answer([4]), answer([5]))

    async def both():
        args = Namespace(opd_topk_metrics_k=K)
        return await asyncio.gather(*(generate(args, prompt(), {"max_new_tokens": 9}) for _ in range(2)))

    assert [s.opd_student.ids.tolist() for s in asyncio.run(both())] == [ids_of([4]), ids_of([5])]


def test_an_aborted_response_that_is_continued_keeps_both_parts(serve):
    serve(answer([4, 5], finish="abort"), answer([6]))
    sample = run(run(prompt()))
    assert sample.opd_student.ids.tolist() == ids_of([4, 5, 6]) and sample.response_length == 3


def test_a_part_that_was_generated_without_lists_counts_as_missing(serve):
    serve(answer([6]))
    sample = prompt()
    sample.tokens, sample.response_length, sample.rollout_log_probs = [7, 8, 4, 5], 2, [-1.0, -1.0]
    sample = run(sample)
    assert sample.opd_student.ids.tolist() == [[NO_TOKEN] * K, [NO_TOKEN] * K, *ids_of([6])]


def test_nothing_generated_records_nothing_new(serve):
    serve(answer([4]), answer([], finish="abort"))
    sample = run(run(prompt()))
    assert sample.opd_student.ids.tolist() == ids_of([4])
    full = run(sample, tokens=1)
    assert full.opd_student.ids.tolist() == ids_of([4]) and full.status == Sample.Status.TRUNCATED


def test_turns_with_tool_tokens_between_them_are_padded_with_missing_rows():
    sample, turns = prompt(), [([4, 5], 2), ([6], 0), ([3, 2], 1)]
    expected = []
    for tokens, tool in turns:
        start = sample.response_length
        sample.response_length += len(tokens)
        record_student_topk(sample, answer(tokens)["meta_info"], K, start)
        sample.response_length += tool
        expected += ids_of(tokens) + [[NO_TOKEN] * K] * tool
    whole = student_topk(sample, K)
    assert whole.ids.tolist() == expected and len(whole) == sample.response_length == 8
    assert np.isneginf(whole.logprobs[whole.ids == NO_TOKEN]).all()


def test_the_servers_lists_do_not_stay_in_the_answer():
    sample, meta = prompt(), answer([4])["meta_info"]
    sample.response_length = 1
    record_student_topk(sample, meta, K, 0)
    assert "output_top_logprobs" not in meta and "output_token_logprobs" in meta


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_an_answer_whose_rows_do_not_match_the_tokens_leaves_them_missing_and_says_so(rows, caplog):
    sample, meta = prompt(), answer(list(range(rows)))["meta_info"]
    sample.response_length = 2
    with caplog.at_level(logging.WARNING):
        record_student_topk(sample, meta, K, 0)
    assert sample.opd_student.ids.tolist() == [[NO_TOKEN] * K] * 2
    assert f"{rows} rows for 2 new tokens" in caplog.text


def test_starting_over_forgets_what_came_after():
    sample = prompt()
    for tokens in ([1, 2, 3], [5]):
        sample.response_length = len(tokens)
        record_student_topk(sample, answer(tokens)["meta_info"], K, 0)
    assert sample.opd_student.ids.tolist() == ids_of([5])


log_probs = st.none() | st.floats(-90, 0, width=32) | st.just(-math.inf)
entries = st.tuples(log_probs, st.integers(0, 2**31 - 1), st.sampled_from([None, "text"]))


@given(listed=st.lists(st.none() | st.lists(entries, max_size=K + 1), max_size=5))
def test_rows_of_any_length_keep_their_known_entries_in_place(listed):
    rows = topk_rows(listed, K)
    assert rows.ids.shape == rows.logprobs.shape == (len(listed), K)
    assert rows.ids.dtype == np.int32 and rows.logprobs.dtype == np.float32
    for ids, logprobs, row in zip(rows.ids, rows.logprobs, listed, strict=True):
        known = [e if e[0] is not None else (-math.inf, NO_TOKEN, None) for e in (row or [])[:K]]
        known += [(-math.inf, NO_TOKEN, None)] * (K - len(known))
        assert ids.tolist() == [e[1] for e in known]
        assert logprobs.tolist() == [e[0] for e in known]


@given(listed=st.lists(st.lists(entries, min_size=K, max_size=K), min_size=1, max_size=5))
def test_the_quick_way_for_full_rows_reads_as_the_careful_one(listed):
    quick, careful = topk_rows(listed, K), topk_rows([*listed, None], K)
    assert np.array_equal(quick.ids, careful.ids[:-1]) and np.array_equal(quick.logprobs, careful.logprobs[:-1])


async def _without_post(args, sample, sampling_params):
    return sample


def _plain(args, sample, sampling_params):
    return sglang_rollout.post


async def post(url, payload):
    raise AssertionError("nobody asks")


async def _wrapped(args, sample, sampling_params):
    return await post(args, sample)


_wrapped.__wrapped__ = _plain


@pytest.mark.parametrize("function", [_without_post, _plain, _wrapped])
def test_a_generate_of_another_kind_is_refused(function, monkeypatch):
    monkeypatch.setattr(opd_generate.sglang_rollout, "generate", function)
    with pytest.raises(RuntimeError, match="does not know this version of slime"):
        run(prompt())


def test_a_generate_of_another_shape_is_refused_before_a_run_starts(monkeypatch):
    opd_generate.check_generate()

    async def generate(args, sample, sampling_params):
        return sample

    monkeypatch.setattr(opd_generate.sglang_rollout, "generate", generate)
    with pytest.raises(RuntimeError, match="does not call a global `post`"):
        opd_generate.check_generate()
