"""Teachers are asked before a run starts; here they are small HTTP servers on this machine."""

import gc
import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from slime.utils.opd_settings import slime_options
from slime.utils.opd_teacher_checks import check_teachers
from slime.utils.processing_utils import load_tokenizer

from .rollouts import arguments


@contextmanager
def server(reply, status=200, vocabulary=300_000, longest=4096):
    """A teacher that answers every text by reply(its body); yields its URL and those bodies. It says itself how many
    token ids it has and how many tokens it takes."""
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "token_ids_logprob" in body:
                self.send_response(400)
                self.end_headers()
                self.wfile.write(f"token id -1; valid range is [0, {vocabulary})".encode())
                return
            bodies.append(body)
            answer = reply(bodies[-1])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        def do_GET(self):
            told = {"/server_info": {"max_req_input_len": longest + 1, "version": "0.5.23"}, "/model_info": {}}
            self.send_response(200 if self.path in told else 404)
            self.end_headers()
            self.wfile.write(json.dumps(told.get(self.path, {})).encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/generate", bodies
        finally:
            http.shutdown()
            thread.join()


def characters(body, before=(), shift=0):
    tokens = [*before, *(ord(c) + shift for c in body["text"])]
    return {"meta_info": {"input_token_logprobs": [(None if i == 0 else -1.0, t, None) for i, t in enumerate(tokens)]}}


def ask(*urls, **values):
    args = arguments(opd_teacher_url=",".join(urls), hf_checkpoint="a/student", **values)
    check_teachers(args, slime_options(args), load_tokenizer("a/student"))


@pytest.mark.parametrize("before", [(), (1,), (1, 2)])
def test_teachers_that_cut_text_as_the_student_does_pass_with_one_request_and_no_new_token(before, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with server(lambda b: characters(b, before)) as (first, bodies), server(characters) as (second, others):
        ask(first, second)
    assert len(bodies) == len(others) == 1
    assert bodies[0]["sampling_params"]["max_new_tokens"] == 0 and bodies[0]["logprob_start_len"] == 0
    assert bodies[0]["return_logprob"] is True


@pytest.mark.parametrize(
    "reply",
    [
        lambda b: characters(b, shift=1),
        lambda b: characters({"text": b["text"][:-1]}),
        lambda b: characters({"text": b["text"] + "x"}),
        lambda b: characters({"text": ""}),
    ],
    ids=["other ids", "shorter", "longer", "nothing"],
)
def test_a_teacher_with_another_tokenizer_is_refused_and_named(reply):
    with server(characters) as (good, _), server(reply) as (url, _), pytest.raises(ValueError) as refused:
        ask(good, url)
    assert f"the teacher at {url} does not share the student's tokenizer (a/student)" in str(refused.value)


@pytest.mark.parametrize(
    "reply", [b"<html>", [], {"meta_info": {}}, {"meta_info": None}, {"meta_info": {"input_token_logprobs": None}}]
)
def test_an_answer_of_no_sglang_server_is_refused(reply):
    with server(lambda _: reply) as (url, _), pytest.raises(ValueError, match="does not answer as an SGLang server"):
        ask(url)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_an_http_error_is_told_with_its_number(status):
    with server(lambda _: {}, status) as (url, _), pytest.raises(ValueError) as refused:
        ask(url)
    assert f"{url} answers HTTP {status}; --opd-teacher-url is its /generate" in str(refused.value)
    del refused
    gc.collect()  # an answer left open would warn here


def test_a_teacher_that_cannot_be_reached_is_refused():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/generate"
        with pytest.raises(ValueError, match=f"the teacher at {url} cannot be reached"):
            ask(url)


@pytest.mark.parametrize("url", ["teacher:1/generate", "no url", "/generate"])
def test_what_is_no_url_is_refused_with_it(url):
    with pytest.raises(ValueError, match=url):
        ask(url)


def test_no_teacher_at_all_is_refused():
    with pytest.raises(ValueError, match="--opd-teacher-url or --rm-url"):
        ask("", rm_url=None)


def test_a_teacher_that_takes_shorter_texts_than_the_run_writes_is_refused():
    with server(characters, longest=100) as (url, _):
        ask(url, rollout_max_response_len=100)
        with pytest.raises(ValueError, match=f"--rollout-max-context-len 101: the teacher at {url} takes 100 tokens"):
            ask(url, rollout_max_context_len=101)


def test_more_entries_than_the_teacher_has_tokens_are_refused():
    with server(characters, vocabulary=3) as (url, _):
        ask(url, opd_topk_metrics_k=3)
        with pytest.raises(ValueError, match="--opd-topk-metrics-k 4 is above the vocabulary"):
            ask(url, opd_topk_metrics_k=4)


def test_a_teacher_whose_vocabulary_cannot_be_learnt_is_refused_at_the_start():
    with server(characters, vocabulary="?") as (url, _), pytest.raises(ValueError, match="vocabulary_unknown"):
        ask(url)
