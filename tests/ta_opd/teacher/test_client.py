import asyncio
import threading
from dataclasses import replace

import aiohttp
import numpy as np
import pytest
from ta_opd.teacher import client as teacher_client
from ta_opd.teacher import servers as teacher_servers
from ta_opd.teacher.client import ScoreRequest, TeacherClient, client_for

from .fake_teacher import FakeTeacher, hang
from .scenarios import LENGTH, assert_absent, assert_right, options, sample, until, with_teachers


@pytest.fixture(autouse=True)
def quick_back_off(monkeypatch):
    monkeypatch.setattr(teacher_client, "BACK_OFF", 0.01)
    monkeypatch.setattr(teacher_client, "LONGEST_BACK_OFF", 0.02)


@pytest.mark.parametrize(
    "offers, wire, form",
    [
        ((), "auto", "nested"),
        (("flat",), "auto", "flat"),
        (("flat", "base64"), "auto", "base64"),
        (("flat", "base64"), "flat", "flat"),
        (("flat", "base64"), "nested", "nested"),
        (("flat",), "base64", "flat"),
    ],
)
def test_a_signal_in_the_most_compact_form_that_both_have(offers, wire, form):
    async def scenario(client, teacher):
        signals = await asyncio.gather(*[client.score(sample(seed)) for seed in range(3)])
        for seed, signal in enumerate(signals):
            assert_right(signal, sample(seed), teacher)
        assert client.counts["scored"] == client.counts[f"wire_{form}"] == 3
        assert (await client.server_facts(teacher.url)).wires == (form,)
        assert len(teacher.payloads) == 3 and teacher.probes == 1

    with_teachers(scenario, FakeTeacher(offers=offers), teacher_wire=wire)


def test_exact_c_equals_the_dense_log_probs():
    student = np.random.default_rng(1).integers(-1, 48, (LENGTH, 5)).astype(np.int32)
    student[0, 0] = 48

    async def scenario(client, teacher):
        request = sample(student_ids=student)
        found = (await client.score(request)).on_student
        expected = np.take_along_axis(teacher.logprobs(request.tokens, LENGTH), student.clip(0, 47), 1)
        expected[student < 0], expected[student == 48] = np.nan, -np.inf
        np.testing.assert_array_equal(found, expected)
        assert teacher.payloads[0]["token_ids_logprob"] == np.unique(student[(student >= 0) & (student < 48)]).tolist()

    with_teachers(scenario, FakeTeacher())


@pytest.mark.parametrize("overflow", ["fallback", "truncate", "error"])
def test_a_union_that_is_too_large(overflow):
    student = np.array([[5, 4], [5, 3], [5, 3], [2, 3], [5, 4], [1, 0]], np.int32)

    async def scenario(client, teacher):
        request = sample(student_ids=student)
        signal = await client.score(request)
        assert client.counts["union_overflow"] == 1
        if overflow == "error":
            assert_absent(signal, "union_overflow", request)
            assert not teacher.payloads
            return
        assert_right(signal, request, teacher)
        kept = {"fallback": [], "truncate": [3, 5]}[overflow]
        assert teacher.payloads[0]["token_ids_logprob"] == (kept or [0])  # a server dies where only some ask for ids
        assert (np.isfinite(signal.on_student) == np.isin(student, kept)).all()

    with_teachers(scenario, FakeTeacher(), exact_cmass_max_union=2, exact_cmass_overflow=overflow)


def test_an_empty_response_asks_nothing():
    async def scenario(client, teacher):
        request = ScoreRequest([1, 2], 0, 3, student_ids=np.empty((0, 2), np.int32))
        signal = await client.score(request)
        assert len(signal) == 0 and signal.topk.k == 3 and signal.on_student.shape == (0, 2) and not signal.failure
        assert teacher.probes == 0 and not client.counts

    with_teachers(scenario, FakeTeacher())


def test_images_travel_whatever_their_size():
    async def scenario(client, teacher):
        request = sample(image_data=("a" * 2**21,))
        assert_right(await client.score(request), request, teacher)
        assert teacher.payloads[0]["image_data"] == list(request.image_data)

    with_teachers(scenario, FakeTeacher())


def test_no_more_requests_are_in_flight_than_allowed():
    async def scenario(client, teacher):
        await asyncio.gather(*[client.score(sample(seed)) for seed in range(12)])
        assert teacher.most_in_flight == 3 and client.counts["scored"] == 12
        assert len(teacher.peers) <= 4

    with_teachers(scenario, FakeTeacher(delay=0.1), teacher_concurrency=3)


def test_the_least_loaded_server_takes_the_next_request():
    async def scenario(client, first, second):
        await asyncio.gather(*[client.score(sample(seed)) for seed in range(4)])
        assert (len(first.payloads), len(second.payloads)) == (2, 2)
        first.script = [hang]
        stuck = asyncio.create_task(client.score(sample()))
        await until(lambda: first.in_flight)
        for seed in range(3):
            await client.score(sample(seed))
        assert (len(first.payloads), len(second.payloads)) == (3, 5)
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)

    with_teachers(scenario, FakeTeacher(), FakeTeacher())


def test_a_sample_may_have_its_own_teacher():
    async def scenario(client, general, special):
        own = sample(url=special.url)
        signals = await asyncio.gather(*[client.score(own) for _ in range(3)])
        assert len(special.payloads) == 3 and not general.payloads
        assert_right(signals[0], own, special)

    async def main():
        async with FakeTeacher(48) as general, FakeTeacher(50) as special:
            client = TeacherClient(options(), [general.url])
            try:
                await scenario(client, general, special)
            finally:
                await client.close()

    asyncio.run(main())


def test_the_vocabulary_comes_from_the_model_where_the_server_does_not_tell_it(tmp_path):
    (tmp_path / "config.json").write_text('{"text_config": {"vocab_size": 48}}')

    async def scenario(client, teacher):
        facts = await client.server_facts(teacher.url)
        assert (facts.vocabulary, facts.context_length, facts.version) == (48, 4095, "0.0")
        assert (facts.model_path, facts.tokenizer_path, facts.wires) == (str(tmp_path), "tokenizer", ())
        assert_right(await client.score(sample()), sample(), teacher)

    with_teachers(scenario, FakeTeacher(tells_vocabulary=False, model_path=str(tmp_path)))


def test_a_server_of_unknown_vocabulary_is_sent_nothing(caplog):
    async def scenario(client, teacher):
        assert (await client.score(sample())).failure == "vocabulary_unknown"
        assert not teacher.payloads and "copy that config.json" in caplog.text

    with_teachers(scenario, FakeTeacher(tells_vocabulary=False))


def test_few_bodies_are_held_at_once_and_large_ones_are_decoded_aside(monkeypatch):
    held, most, threads = 0, 0, set()
    read, decode = aiohttp.ClientResponse.read, teacher_client.decode

    async def counted_read(response):
        nonlocal held, most
        held += 1
        most = max(most, held)
        return await read(response)

    def counted_decode(body, question):
        nonlocal held
        threads.add(threading.current_thread().name.rstrip("_0"))
        answer = decode(body, question)
        held -= 1
        return answer

    async def scenario(client, teacher):
        await client.server_facts(teacher.url)
        monkeypatch.setattr(aiohttp.ClientResponse, "read", counted_read)
        monkeypatch.setattr(teacher_client, "decode", counted_decode)
        monkeypatch.setattr(teacher_client, "DECODED_INLINE", 100)
        await asyncio.gather(*[client.score(sample(seed)) for seed in range(20)])
        assert client.counts["scored"] == 20

    with_teachers(scenario, FakeTeacher())
    assert 1 < most <= teacher_client.BODIES_HELD and held == 0
    assert threads == {"teacher-decode"}


def test_each_event_loop_has_its_client_and_that_of_a_closed_loop_is_dropped():
    async def main(seed):
        async with FakeTeacher() as teacher:
            client = client_for(options(), [teacher.url])
            assert client is client_for(options(), [teacher.url])
            assert client is not client_for(options(teacher_attempts=2), [teacher.url])
            assert_right(await client.score(sample(seed)), sample(seed), teacher)
            sessions = [one._session for one in teacher_client._clients.values()]
            assert len(teacher_client._clients) == 2
            for one in list(teacher_client._clients.values()):
                await one.close()
            assert client_for(options(), [teacher.url]) is not client
            return client, sessions

    first, sessions = asyncio.run(main(0))
    second, _ = asyncio.run(main(1))
    assert first is not second and all(session is None or session.closed for session in sessions)
    assert len(teacher_client._clients) == 2
    teacher_client._clients.clear()


def test_a_loop_that_closed_under_its_client_leaves_nothing_open():
    async def open_only():
        client = client_for(options(), ["http://127.0.0.1:9/generate"])
        client._http()
        return client

    async def next_loop():
        client_for(options(), ["http://127.0.0.1:9/generate"])
        await asyncio.sleep(0)
        await asyncio.gather(*teacher_client._closing)

    client = asyncio.run(open_only())
    asyncio.run(next_loop())
    assert client.closed and client._session.closed
    teacher_client._clients.clear()


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://a/generate", "http:///generate", "http://a/v1/completions"])
def test_what_is_no_url_of_a_teacher(url):
    with pytest.raises(ValueError, match=r"--opd-teacher-url"):
        TeacherClient(options(), [url])


def test_a_servers_address_without_a_path_means_its_generate():
    assert teacher_servers.generate_url("http://a:1") == teacher_servers.generate_url("http://a:1/generate/")


def test_a_client_without_any_url_says_which_flag_names_one(caplog):
    async def scenario(client):
        assert (await client.score(sample())).failure == "no_teacher"
        assert "--opd-teacher-url or --rm-url" in caplog.text

    with_teachers(scenario)


def test_a_samples_url_that_is_none_costs_that_sample_alone():
    async def scenario(client, teacher):
        assert (await client.score(replace(sample(), url="teacher-7"))).failure == "bad_url"
        assert not (await client.score(sample())).failure

    with_teachers(scenario, FakeTeacher())
