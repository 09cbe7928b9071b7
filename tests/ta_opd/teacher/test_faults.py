import asyncio
import json
import logging

import numpy as np
import pytest
from ta_opd.teacher import client as teacher_client
from ta_opd.teacher import servers as teacher_servers
from ta_opd.teacher.answer import TeacherFault
from ta_opd.teacher.client import ScoreRequest

from .fake_teacher import FakeTeacher, changed, cut_off, hang, raw, reset, status
from .scenarios import LENGTH, assert_absent, assert_right, sample, until, with_teachers


@pytest.fixture(autouse=True)
def quick_back_off(monkeypatch):
    monkeypatch.setattr(teacher_client, "BACK_OFF", 0.01)
    monkeypatch.setattr(teacher_client, "LONGEST_BACK_OFF", 0.02)


@pytest.mark.parametrize("fault", [status(503), status(500), status(429), reset, cut_off])
def test_a_fault_that_may_pass_is_retried(fault):
    async def scenario(client, teacher):
        teacher.script = [fault, fault]
        assert_right(await client.score(sample()), sample(), teacher)
        assert len(teacher.payloads) == 3 and client.counts["retries"] == 2
        assert client.counts["scored"] == 1

    with_teachers(scenario, FakeTeacher())


@pytest.mark.parametrize("code", [400, 401, 404, 408, 413])
def test_a_request_that_is_refused_is_not_repeated(code):
    async def scenario(client, teacher):
        teacher.script = [status(code)]
        assert_absent(await client.score(sample()), f"http_{code}", sample())
        assert len(teacher.payloads) == 1 and client.counts == {f"http_{code}": 1}

    with_teachers(scenario, FakeTeacher())


@pytest.mark.parametrize(
    "fault, reason",
    [
        (raw(b"{"), "malformed"),
        (raw(b'{"error": {"message": "no memory"}}'), "server_error"),
        (changed(lambda meta: meta.update(prompt_tokens=3)), "truncated"),
        (changed(lambda meta: meta["input_token_logprobs"].pop()), "short"),
        (changed(lambda meta: meta["input_token_logprobs"].append([-1.0, 1, None])), "long"),
        (changed(lambda meta: meta["input_token_logprobs"][1].__setitem__(1, 999)), "misaligned"),
    ],
)
def test_a_wrong_answer_costs_the_sample_and_is_not_asked_for_again(fault, reason):
    async def scenario(client, teacher):
        teacher.script = [fault]
        assert_absent(await client.score(sample()), reason, sample())
        assert client.counts == {reason: 1} and len(teacher.payloads) == 1
        assert_right(await client.score(sample()), sample(), teacher)

    with_teachers(scenario, FakeTeacher())


@pytest.mark.parametrize("fault, reason", [(status(503), "http_503"), (reset, "transport")])
def test_attempts_end(fault, reason):
    async def scenario(client, teacher):
        teacher.script = [fault] * 9
        assert_absent(await client.score(sample()), reason, sample())
        assert len(teacher.payloads) == 3 and client.counts == {"retries": 2, reason: 1}

    with_teachers(scenario, FakeTeacher(), teacher_attempts=3)


def test_a_slow_attempt_is_given_up_and_repeated():
    async def scenario(client, teacher):
        teacher.script = [hang]
        assert_right(await client.score(sample()), sample(), teacher)
        assert client.counts["retries"] >= 1

    with_teachers(scenario, FakeTeacher(), teacher_request_timeout=0.3)


def test_the_deadline_includes_attempts_and_waiting_for_a_slot():
    async def scenario(client, teacher):
        teacher.script = [hang] * 99
        loop = asyncio.get_running_loop()
        start = loop.time()
        signals = await asyncio.gather(*[client.score(sample(seed)) for seed in range(4)])
        assert 0.5 <= loop.time() - start < 5
        for seed, signal in enumerate(signals):
            assert_absent(signal, "timeout", sample(seed))
        assert client.counts["timeout"] == 4 and len(teacher.payloads) < 4

    with_teachers(scenario, FakeTeacher(), teacher_timeout=0.5, teacher_request_timeout=0.3, teacher_concurrency=1)


def test_a_retry_goes_to_another_server_which_is_preferred_until_the_first_has_cooled_down(monkeypatch):
    async def scenario(client, first, second):
        first.script = [status(503)]
        assert_right(await client.score(sample()), sample(), first)
        assert (len(first.payloads), len(second.payloads)) == (1, 1)
        await asyncio.gather(*[client.score(sample(seed)) for seed in range(4)])
        assert (len(first.payloads), len(second.payloads)) == (1, 5)
        monkeypatch.setattr(teacher_servers.Server, "is_down", False)
        await client.score(sample())
        assert len(first.payloads) == 2

    with_teachers(scenario, FakeTeacher(), FakeTeacher())


def test_a_server_that_dies_and_comes_back_on_its_port_is_waited_for(monkeypatch):
    monkeypatch.setattr(teacher_client, "LONGEST_BACK_OFF", 0.1)

    async def scenario(client, teacher):
        assert_right(await client.score(sample()), sample(), teacher)
        teacher.script = [hang] * 6
        scoring = [asyncio.create_task(client.score(sample(seed))) for seed in range(6)]
        await until(lambda: teacher.in_flight == 6)
        await teacher.stop()
        await until(lambda: client.counts["retries"] > 12)
        await teacher.start()
        for seed, signal in enumerate(await asyncio.gather(*scoring)):
            assert_right(signal, sample(seed), teacher)
        assert client.counts["scored"] == 7

    with_teachers(scenario, FakeTeacher(), teacher_attempts=999)


def test_a_server_that_is_not_there_is_a_transport_fault():
    async def scenario(client, teacher):
        await teacher.stop()
        signals = await asyncio.gather(*[client.score(sample(seed)) for seed in range(3)])
        for seed, signal in enumerate(signals):
            assert_absent(signal, "transport", sample(seed))
        with pytest.raises(TeacherFault, match="transport"):
            await client.server_facts(teacher.url)
        await teacher.start()
        assert_right(await client.score(sample()), sample(), teacher)

    with_teachers(scenario, FakeTeacher(), teacher_attempts=2)


@pytest.mark.parametrize(
    "request_, reason",
    [
        (ScoreRequest([1, 2, 48], 1, 2), "out_of_vocabulary"),
        (ScoreRequest([1, -1, 4], 1, 2), "out_of_vocabulary"),
        (ScoreRequest([1, 2], 2, 2), "no_prompt"),
        (ScoreRequest([1] * 10, 3, 2), "too_long"),
    ],
)
def test_what_a_server_cannot_take_is_not_sent(request_, reason):
    async def scenario(client, teacher):
        assert_absent(await client.score(request_), reason, request_)
        assert not teacher.payloads and client.counts == {reason: 1}
        longest = ScoreRequest([1] * 9, 3, 2)
        assert_right(await client.score(longest), longest, teacher)

    with_teachers(scenario, FakeTeacher(limit=10))


def test_unknown_log_probs_are_counted():
    async def scenario(client, teacher):
        teacher.script = [changed(lambda meta: meta["input_token_logprobs"][2].__setitem__(0, None))]
        signal = await client.score(sample())
        assert np.isnan(signal.logprobs).tolist() == [False, True, False, False, False, False]
        assert client.counts["nonfinite_tokens"] == 1 and client.counts["scored"] == 1

    with_teachers(scenario, FakeTeacher())


def test_failures_are_written_down_and_warned_of_now_and_then(tmp_path, caplog):
    path = tmp_path / "bank" / "quarantine.jsonl"

    async def scenario(client, teacher):
        teacher.script = [status(400)] * 101
        with caplog.at_level(logging.WARNING, "ta_opd"):
            await asyncio.gather(*[client.score(sample(seed)) for seed in range(101)])
        return teacher.url

    url = with_teachers(scenario, FakeTeacher(), token_bank_dir=str(path.parent))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 101 and len(caplog.records) == 2
    assert {line["label"] for line in lines} == {f"sample {seed}" for seed in range(101)}
    assert {key: lines[0][key] for key in ("reason", "urls", "prompt_length", "response_length", "top_k")} == {
        "reason": "http_400",
        "urls": [url],
        "prompt_length": 4,
        "response_length": LENGTH,
        "top_k": 3,
    }
    assert "status 400" in lines[0]["detail"] and lines[0]["time"].endswith("+00:00")


def test_the_quarantine_file_may_be_named_and_is_appended_to(tmp_path):
    path = tmp_path / "failed.jsonl"
    path.write_text('{"old": 1}\n')

    async def scenario(client, teacher):
        teacher.script = [status(400)]
        await client.score(sample())

    with_teachers(scenario, FakeTeacher(), teacher_quarantine=str(path))
    assert len(path.read_text().splitlines()) == 2
