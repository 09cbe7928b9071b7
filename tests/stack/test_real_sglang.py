"""The teacher client against the real SGLang server on a CPU, and both against transformers' forward pass.

Axes: R response tokens of one sample, V vocabulary, K entries of a top-k list.
"""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import transformers
from ta_opd.slime_options import SlimeOptions
from ta_opd.support import NO_TOKEN
from ta_opd.teacher import client as teacher_client
from ta_opd.teacher.client import TeacherClient
from ta_opd.teacher.request import ScoreRequest, question_for

from .sglang.tiny_models import CONTEXT, IMPOSSIBLE, TRIGGER, VOCABULARY

K = 16
# Nats, against transformers in that type. The server's logits are bf16: between 8 and 16, where this teacher's largest
# lie, neighbours are 1/16 apart. Measured: at most 0.047.
BFLOAT16_ERROR = {"bfloat16": 1 / 16, "float32": 1 / 16}


@dataclass(frozen=True)
class Sample:
    prompt: list[int]
    response: list[int]

    @property
    def tokens(self):
        return self.prompt + self.response

    def request(self, top_k=K, **more):
        return ScoreRequest(self.tokens, len(self.response), top_k, **more)


@pytest.fixture(scope="module")
def forward(tiny_models):
    """forward(model, dtype, sample) -> float32 [R, V]: log p of every next token at each response token, nats."""
    loaded = {}

    @torch.no_grad()
    def logprobs(name, dtype, sample):
        if (name, dtype) not in loaded:
            model = transformers.Qwen3ForCausalLM.from_pretrained(tiny_models[name], dtype=getattr(torch, dtype))
            loaded[name, dtype] = model.eval()
        logits = loaded[name, dtype](torch.tensor([sample.tokens])).logits[0].float()
        return logits.log_softmax(-1)[len(sample.prompt) - 1 : -1].numpy()

    return logprobs


@pytest.fixture(scope="module")
def samples(tiny_models):
    """Two prompts with three responses of the student each, and one sample that is prefilled in several chunks."""
    student = transformers.Qwen3ForCausalLM.from_pretrained(tiny_models["student"], dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(3)
    prompts = torch.randint(3, TRIGGER, (2, 24), generator=generator)
    with torch.no_grad():
        tokens = prompts.repeat_interleave(3, 0)
        for _ in range(40):
            following = student(tokens).logits[:, -1].softmax(-1)
            tokens = torch.cat([tokens, torch.multinomial(following, 1, generator=generator)], 1)
    rows = tokens.tolist()
    long = torch.randint(3, TRIGGER, (700,), generator=generator).tolist()
    return [Sample(row[:24], row[24:]) for row in rows] + [Sample(long[:300], long[300:])]


def score(server, requests, **options):
    """(signals, counts of the client), the requests put one after the other, so that each is a batch of its own."""

    async def one_by_one():
        client = TeacherClient(SlimeOptions(**options), [server.url])
        try:
            return [await client.score(request) for request in requests], client.counts
        finally:
            await client.close()

    return asyncio.run(one_by_one())


def post(server, body):
    """(HTTP status, JSON) of a request that the client would not send."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(server.url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def offers_base64(server):
    return tuple(int(part) for part in re.findall(r"\d+", server.version)[:3]) >= (0, 5, 23)


def test_sampled_logprobs_are_those_of_transformers(sglang, samples, forward):
    signals, counts = score(sglang, [sample.request(top_k=0) for sample in samples])
    assert counts["scored"] == len(samples) and not any(signal.failure for signal in signals)
    for dtype, bound in BFLOAT16_ERROR.items():
        errors = []
        for sample, signal in zip(samples, signals, strict=True):
            expected = forward("teacher", dtype, sample)[np.arange(len(sample.response)), sample.response]
            errors.append(np.abs(signal.logprobs - expected).max())
        assert max(errors) <= bound


def test_top_k_is_that_of_transformers_up_to_ties_of_bfloat16(sglang, samples, forward):
    signals, _ = score(sglang, [sample.request() for sample in samples])
    for dtype, bound in BFLOAT16_ERROR.items():
        for sample, signal in zip(samples, signals, strict=True):
            dense = forward("teacher", dtype, sample)
            expected = np.take_along_axis(dense, signal.topk.ids, 1)
            assert np.abs(signal.topk.logprobs - expected).max() <= bound
            smallest_kept = np.sort(dense, 1)[:, -K]
            assert (expected.min(1) >= smallest_kept - 2 * bound).all(), "an id that is not among the K best"
            assert (np.diff(signal.topk.logprobs, axis=1) <= 0).all()
            assert all(len(set(row)) == K for row in signal.topk.ids.tolist())


def test_ids_are_aligned_with_the_response(sglang, samples):
    """A list shifted by one position would still look like log-probs; the sampled token's own would not fit."""
    signals, _ = score(sglang, [sample.request(top_k=VOCABULARY) for sample in samples])
    for sample, signal in zip(samples, signals, strict=True):
        rows = np.arange(len(sample.response))
        dense = np.full((len(rows), VOCABULARY), np.nan, np.float32)
        np.put_along_axis(dense, signal.topk.ids, signal.topk.logprobs, 1)
        np.testing.assert_array_equal(dense[rows, sample.response], signal.logprobs)
        np.testing.assert_allclose(np.exp(dense.astype(np.float64)).sum(1), 1, atol=1e-3)


def test_exact_c_is_the_dense_reference(sglang, samples, forward):
    student_ids = [np.argsort(-forward("student", "float32", sample), 1)[:, :K].astype(np.int32) for sample in samples]
    student_ids[0][3, 5:] = NO_TOKEN
    requests = [sample.request(student_ids=ids) for sample, ids in zip(samples, student_ids, strict=True)]
    signals, _ = score(sglang, requests, topk_metrics_k=K, exact_cmass=True)
    for dtype, bound in BFLOAT16_ERROR.items():
        for sample, ids, signal in zip(samples, student_ids, signals, strict=True):
            expected = np.take_along_axis(forward("teacher", dtype, sample), np.maximum(ids, 0), 1)
            asked = ids != NO_TOKEN
            assert np.isnan(signal.on_student[~asked]).all()
            assert np.abs(signal.on_student - expected)[asked].max() <= bound


def test_a_server_outlives_a_crowd_in_which_some_unions_are_too_large(sglang, samples):
    """Servers die of a batch in which only some requests ask for ids (sgl-project/sglang#34719)."""
    few, whole = np.arange(K, dtype=np.int32), np.arange(len(samples[0].response) * K, dtype=np.int32) % VOCABULARY
    ids = [whole.reshape(-1, K) if i % 2 else np.tile(few, (len(samples[0].response), 1)) for i in range(8)]
    requests = [samples[i % 6].request(student_ids=ids[i]) for i in range(8)]

    async def all_at_once():
        options = SlimeOptions(topk_metrics_k=K, exact_cmass=True, exact_cmass_max_union=2 * K)
        client = TeacherClient(options, [sglang.url])
        try:
            return await asyncio.gather(*(client.score(request) for request in requests)), client.counts
        finally:
            await client.close()

    for _ in range(3):
        signals, counts = asyncio.run(all_at_once())
        assert counts["union_overflow"] == 4 and not any(signal.failure for signal in signals)
        for i, signal in enumerate(signals):
            assert np.isnan(signal.on_student).all() if i % 2 else np.isfinite(signal.on_student).all()
    assert sglang.is_healthy()


def test_every_wire_form_gives_the_same_arrays(sglang, samples):
    answers = {}
    for wire in ("nested", "flat", "base64", "auto"):
        signals, counts = score(sglang, [sample.request() for sample in samples], teacher_wire=wire)
        offered = wire.replace("auto", "base64") if offers_base64(sglang) else "nested"
        assert counts[f"wire_{offered}"] == len(samples)
        answers[wire] = signals
    for wire, signals in answers.items():
        for signal, nested in zip(signals, answers["nested"], strict=True):
            np.testing.assert_array_equal(signal.logprobs, nested.logprobs, wire)
            np.testing.assert_array_equal(signal.topk.ids, nested.topk.ids, wire)
            np.testing.assert_array_equal(signal.topk.logprobs, nested.topk.logprobs, wire)


@pytest.mark.parametrize("wire", ["nested", "flat", "base64"])
def test_a_token_without_probability_is_never_given_one(sglang, wire):
    """JSON has no -inf: the server writes null, for NaN too."""
    sample = Sample([5, 17, TRIGGER], [IMPOSSIBLE, 40, 41])
    ids = np.array([[IMPOSSIBLE, 40]] * 3, np.int32)
    request = sample.request(top_k=VOCABULARY, student_ids=ids)
    (signal,), _ = score(sglang, [request], topk_metrics_k=K, exact_cmass=True, teacher_wire=wire)
    assert not signal.failure
    assert not np.isfinite(signal.logprobs[0]) and np.isfinite(signal.logprobs[1:]).all()
    assert signal.topk.logprobs[0, -1] == -np.inf and np.isfinite(signal.topk.logprobs[0, :-1]).all()
    assert signal.topk.ids[0, -1] in (NO_TOKEN, IMPOSSIBLE)
    assert not np.isfinite(signal.on_student[0, 0]) and np.isfinite(signal.on_student.flat[1:]).all()


def test_responses_of_one_prompt_share_its_prefix_in_the_servers_cache(sglang, samples, forward):
    """They would not if log-probs of the whole prompt were asked for: the cache ends where they start."""
    facts = asyncio.run(_facts(sglang))
    prompt = list(range(100, 160))
    answers = []
    for response in ([7, 8, 9], [10, 11, 12], [13, 14, 15]):
        question = question_for(ScoreRequest(prompt + response, 3, K), facts, SlimeOptions())
        status, answer = post(sglang, question.body())
        assert status == 200
        answers.append((Sample(prompt, response), answer["meta_info"]))
    assert [meta["cached_tokens"] for _, meta in answers] == [0, len(prompt) - 1, len(prompt) - 1]
    for sample, meta in answers:
        cached = [entry[0] for entry in meta["input_token_logprobs"][1:]]
        expected = forward("teacher", "bfloat16", sample)[np.arange(3), sample.response]
        np.testing.assert_allclose(cached, expected, atol=BFLOAT16_ERROR["bfloat16"])


async def _facts(server):
    client = TeacherClient(SlimeOptions(), [server.url])
    try:
        return await client.server_facts(server.url)
    finally:
        await client.close()


def test_what_the_server_says_of_itself(sglang, tiny_models):
    facts = asyncio.run(_facts(sglang))
    assert facts.vocabulary == VOCABULARY
    assert facts.version == sglang.version
    assert facts.model_path == str(tiny_models["teacher"])
    assert facts.context_length <= CONTEXT


def test_a_request_that_the_server_cannot_take_never_reaches_it(sglang, samples):
    good = samples[0]
    context = asyncio.run(_facts(sglang)).context_length
    bad = {
        "too_long": [Sample(good.prompt, [5] * n) for n in (context, CONTEXT * 2)],
        "out_of_vocabulary": [Sample(good.prompt, [5, token, 6]) for token in (VOCABULARY, -1, 151_936)]
        + [Sample([VOCABULARY, 4], [5, 6])],
    }
    refused = [sample for samples in bad.values() for sample in samples]
    before = sglang.log.read_text(encoding="utf-8").count("POST /generate")
    signals, counts = score(sglang, [sample.request() for sample in (*refused, good)])
    assert [signal.failure for signal in signals] == [reason for reason in bad for _ in bad[reason]] + [""]
    assert counts["scored"] == 1
    probe_and_good = 2
    assert sglang.log.read_text(encoding="utf-8").count("POST /generate") - before == probe_and_good
    for signal in signals[:-1]:
        assert np.isnan(signal.logprobs).all() and (signal.topk.ids == NO_TOKEN).all()


def test_the_longest_sample_that_the_client_lets_through_is_answered(sglang):
    context = asyncio.run(_facts(sglang)).context_length
    (signal,), _ = score(sglang, [Sample([5] * (context - 8), [6] * 8).request()])
    assert not signal.failure and np.isfinite(signal.logprobs).all()
    status, answer = post(sglang, {"input_ids": [5] * (context + 1), "sampling_params": {"max_new_tokens": 0}})
    assert status == 400, answer


def test_a_top_k_above_the_vocabulary_is_cut_to_it(sglang, samples):
    (signal,), _ = score(sglang, [samples[0].request(top_k=VOCABULARY + 100)])
    assert signal.topk.k == VOCABULARY + 100
    assert (signal.topk.ids[:, VOCABULARY:] == NO_TOKEN).all()
    assert sglang.is_healthy()


def test_input_logprobs_are_at_temperature_one_whatever_is_asked(sglang, samples):
    """Why another rollout temperature is refused with an SGLang teacher. What is generated does follow it."""
    sample = samples[0]
    inputs, outputs = [], []
    for temperature in (1.0, 0.5):
        body = {
            "input_ids": sample.tokens,
            "sampling_params": {"temperature": temperature, "max_new_tokens": 1, "sampling_seed": 0},
            "return_logprob": True,
            "top_logprobs_num": 2,
            "logprob_start_len": len(sample.prompt) - 1,
        }
        status, answer = post(sglang, body)
        assert status == 200, answer
        inputs.append(answer["meta_info"]["input_token_logprobs"])
        outputs.append([entry[0] for entry in answer["meta_info"]["output_top_logprobs"][0]])
    assert inputs[0] == inputs[1]
    assert outputs[0] != outputs[1]


def test_a_server_killed_and_restarted_in_mid_run_costs_no_sample(sglang, samples, monkeypatch):
    monkeypatch.setattr(teacher_client, "LONGEST_BACK_OFF", 1.0)
    options = SlimeOptions(teacher_attempts=1000, teacher_concurrency=4)
    requests = [sample.request() for sample in samples] * 10
    expected = score(sglang, requests[: len(samples)])[0] * 10

    async def run():
        client = TeacherClient(options, [sglang.url])
        try:
            scoring = [asyncio.create_task(client.score(request)) for request in requests]
            while client.counts["scored"] < len(samples):
                await asyncio.sleep(0.001)
            sglang.kill()
            assert client.counts["scored"] < len(requests), "the run was over before the server was killed"
            sglang.launch()
            await asyncio.to_thread(sglang.wait_until_ready)
            return await asyncio.gather(*scoring), client.counts
        finally:
            await client.close()

    signals, counts = asyncio.run(run())
    assert [signal.failure for signal in signals] == [""] * len(requests)
    assert counts["scored"] == len(requests) and counts["retries"] > 0
    for signal, alone in zip(signals, expected, strict=True):
        np.testing.assert_allclose(signal.logprobs, alone.logprobs, atol=BFLOAT16_ERROR["bfloat16"])
