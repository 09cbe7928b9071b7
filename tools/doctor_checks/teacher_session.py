"""Talks to one teacher: the client's own requests over plain HTTP, so that an answer can be looked at as it came.

Axes: R response tokens of one sample, K entries of a list.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ta_opd.slime_options import SlimeOptions
from ta_opd.teacher.answer import TeacherFault
from ta_opd.teacher.client import TeacherClient
from ta_opd.teacher.request import ScoreRequest, question_for
from ta_opd.teacher.servers import ServerFacts, generate_url
from ta_opd.teacher.wire import Answer, Question, decode

from .settings import Settings

TEXTS = (
    "The sum of the angles of a triangle is",
    "Water freezes at zero degrees Celsius and boils at",
    "To find the area of a rectangle, multiply its length by its width. For example,",
    "Once upon a time there was a small village at the foot of a mountain, where",
    "The capital of France is Paris, and the capital of Italy is",
    "A train leaves the station at nine in the morning and travels at sixty miles an hour. By noon it has",
    "In the beginning of the year the days are short, and in the summer the days are",
    "If a book costs twelve dollars and a pen costs three dollars, then two books and four pens cost",
)
GENERATED = 64
GENERATION_LIST = 8


@dataclass(frozen=True)
class Sample:
    """A response that the teacher sampled itself at temperature 1.

    tokens: prompt and response. generated: float64 [R], its log-probs as it sampled, nats. lists: the ids and log-probs
    of its list at each response token. text_cost: nats of each prompt token but the first.
    """

    tokens: list[int]
    generated: NDArray[np.float64]
    lists: list[dict[int, float]]
    text_cost: NDArray[np.float64]

    @property
    def response(self) -> list[int]:
        return self.tokens[-len(self.generated) :]

    @property
    def prompt(self) -> list[int]:
        return self.tokens[: -len(self.generated)]

    def request(self, top_k: int = 0, **more: Any) -> ScoreRequest:
        return ScoreRequest(self.tokens, len(self.generated), top_k, **more)


class TeacherSession:
    """One server. Raises ValueError for what is no URL; its methods raise TeacherFault where the server fails."""

    def __init__(self, url: str, timeout: float, concurrency: int) -> None:
        self.url, self.timeout = generate_url(url), timeout
        self.options = SlimeOptions(
            teacher_request_timeout=timeout,
            teacher_timeout=timeout,
            teacher_attempts=1,
            teacher_concurrency=concurrency,
            topk_metrics_k=1,
            exact_cmass=True,
        )
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @cached_property
    def facts(self) -> ServerFacts:
        return asyncio.run(self._facts())

    @cached_property
    def samples(self) -> list[Sample]:
        """A response to each of TEXTS."""
        body = {
            "sampling_params": {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "max_new_tokens": GENERATED},
            "return_logprob": True,
            "logprob_start_len": 0,
            "top_logprobs_num": min(GENERATION_LIST, self.facts.vocabulary),
        }
        body["sampling_params"]["ignore_eos"] = True
        answers = self.ask_all([json.dumps({**body, "text": text}).encode() for text in TEXTS], len(TEXTS))
        return [_sample(json.loads(answer)) for answer in answers]

    def text_ids(self, text: str) -> list[int]:
        """The ids that the server reads a text as."""
        body = {"text": text, "sampling_params": {"max_new_tokens": 0}, "return_logprob": True, "logprob_start_len": 0}
        return [entry[1] for entry in _part(self.meta(json.dumps(body).encode()), "input_token_logprobs")]

    def score(self, requests: Iterable[ScoreRequest], at_once: int = 1, temperature: float = 1.0) -> list[Answer]:
        """The answers, as the client decodes them."""
        questions = [question_for(request, self.facts, self.options) for request in requests]
        bodies = [_at_temperature(question.body(), temperature) for question in questions]
        return [decode(said, question) for said, question in zip(self.ask_all(bodies, at_once), questions, strict=True)]

    def ask_wire(self, request: ScoreRequest, wire: str) -> str:
        """The form that an answer came in when `wire` was asked for."""
        question = Question(
            np.asarray(request.tokens, np.int64),
            request.response_length,
            request.top_k,
            self.facts.vocabulary,
            wire=wire,
        )
        return decode(self.ask(question.body()), question).wire

    def meta(self, body: bytes) -> dict[str, Any]:
        """meta_info of an answer."""
        return _meta(json.loads(self.ask(body)))

    def ask(self, body: bytes) -> bytes:
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                said = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise TeacherFault(f"http_{error.code}", error.read(1000).decode(errors="replace")) from error
        except TimeoutError as error:
            raise TeacherFault("timeout", f"{self.url} did not answer in {self.timeout:g} s (--timeout)") from error
        except (OSError, http.client.HTTPException) as error:
            raise TeacherFault("transport", f"{self.url}: {error or type(error).__name__}") from error
        if not said.lstrip().startswith(b"{"):
            raise TeacherFault("malformed", f"the answer is no JSON object: {said[:60]!r}")
        return said

    def ask_all(self, bodies: Sequence[bytes], at_once: int) -> list[bytes]:
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(self.ask, bodies))

    def fresh_prompt(self, length: int) -> list[int]:
        """Ids of the texts in an order that no prefix cache has seen: other ids may stand for pictures."""
        known = sorted({token for sample in self.samples for token in sample.prompt})
        return random.Random(time.time_ns()).choices(known, k=length)

    async def _facts(self) -> ServerFacts:
        client = TeacherClient(self.options, [self.url])
        try:
            return await client.server_facts(self.url)
        finally:
            await client.close()


def list_length(session: TeacherSession, settings: Settings) -> int:
    """K of a run, or the paper's where it asks for none, as far as the vocabulary goes."""
    return min(settings.number("OPD_TOPK_METRICS_K") or 16, session.facts.vocabulary)


def _at_temperature(body: bytes, temperature: float) -> bytes:
    asked = json.loads(body)
    asked["sampling_params"]["temperature"] = temperature
    return json.dumps(asked).encode()


def _meta(answer: dict[str, Any]) -> dict[str, Any]:
    meta = answer.get("meta_info")
    if not isinstance(meta, dict):
        raise TeacherFault("malformed", f"an answer without meta_info: {str(answer)[:150]}")
    return meta


def _part(meta: dict[str, Any], name: str) -> list[Any]:
    if not isinstance(meta.get(name), list) or not meta[name]:
        raise TeacherFault("malformed", f"an answer without {name}")
    return meta[name]


def _sample(answer: dict[str, Any]) -> Sample:
    meta = _meta(answer)
    prompt, response = _part(meta, "input_token_logprobs"), _part(meta, "output_token_logprobs")
    lists = meta.get("output_top_logprobs") or [[]] * len(response)
    values = [entry[0] for entry in (*prompt[1:], *response)]
    if None in values or len(lists) != len(response):
        raise TeacherFault("malformed", "generation gave a token no log-prob")
    # SGLang writes the last id of its vocabulary as 0 beside log-probs; output_ids have it right.
    ids = answer.get("output_ids") or [entry[1] for entry in response]
    return Sample(
        tokens=[entry[1] for entry in prompt] + list(ids)[-len(response) :],
        generated=np.array(values[len(prompt) - 1 :], np.float64),
        lists=[{id_: value for value, id_, *_ in entries if value is not None} for entries in lists],
        text_cost=-np.array(values[: len(prompt) - 1], np.float64),
    )
