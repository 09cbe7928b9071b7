"""How fast a teacher scores, asked by the client that a run uses, and whether its prefix cache serves a prompt's
further responses."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, replace
from statistics import median

from ta_opd.teacher.answer import TeacherFault
from ta_opd.teacher.client import TeacherClient
from ta_opd.teacher.request import ScoreRequest, question_for

from .teacher_session import TeacherSession

PROMPT = 128
"""Prompt tokens of a timed request."""
MOST_TOKENS = 65_536
"""Response tokens of all timed requests together."""
CACHED_PROMPT = 512
_TIMED_PAIRS = 3


@dataclass(frozen=True)
class Speed:
    """requests: how many were timed, of `length` response tokens each. rate: response tokens a second.
    request_seconds: the median of one, waiting included."""

    requests: int
    length: int
    rate: float
    request_seconds: float


def measure(session: TeacherSession, length: int, requests: int, top_k: int) -> Speed:
    """Score `requests` responses of `length` tokens, fewer and shorter where the context or MOST_TOKENS ask for it."""
    context = session.facts.context_length or length + PROMPT
    prompt = min(PROMPT, max(1, context // 4))
    length = max(1, min(length, context - prompt))
    requests = max(1, min(requests, MOST_TOKENS // length))
    # Of their own prompts, like the prompts of a rollout: the cache's help is left out.
    asked = [ScoreRequest(session.fresh_prompt(prompt + length), length, top_k) for _ in range(requests)]
    seconds, each = asyncio.run(_time(session, asked))
    return Speed(requests, length, requests * length / seconds, median(each))


async def _time(session: TeacherSession, asked: list[ScoreRequest]) -> tuple[float, list[float]]:
    client = TeacherClient(replace(session.options, teacher_timeout=2 * session.timeout), [session.url])

    async def one(request: ScoreRequest) -> tuple[float, str]:
        start = time.perf_counter()
        signal = await client.score(request)
        return time.perf_counter() - start, signal.failure

    try:
        await client.server_facts(session.url)
        start = time.perf_counter()
        each = await asyncio.gather(*map(one, asked))
        seconds = time.perf_counter() - start
    finally:
        await client.close()
    failures = [failure for _, failure in each if failure]
    if failures:
        raise TeacherFault(failures[0], f"{len(failures)} of {len(asked)} requests failed under load")
    return seconds, [taken for taken, _ in each]


@dataclass(frozen=True)
class Cache:
    """prompt: its tokens. cached: how many of them the second response found cached, None where the server does not
    say. speedup: seconds of a prompt's first response through those of its second, medians."""

    prompt: int
    cached: int | None
    speedup: float


def measure_cache(session: TeacherSession) -> Cache:
    """Ask as the client asks, whose log-probs start at the prompt's last token: the cache ends where they start."""
    context = session.facts.context_length or 2 * CACHED_PROMPT
    length = min(CACHED_PROMPT, context // 2)
    first, second, cached = [], [], []
    for _ in range(_TIMED_PAIRS):
        prompt = session.fresh_prompt(length)
        for seconds in (first, second):
            request = ScoreRequest(prompt + session.fresh_prompt(8), 8, 0)
            body = question_for(request, session.facts, session.options).body()
            start = time.perf_counter()
            meta = json.loads(session.ask(body)).get("meta_info", {})
            seconds.append(time.perf_counter() - start)
        cached.append(meta.get("cached_tokens"))
    known = [count for count in cached if isinstance(count, int)]
    return Cache(length, min(known) if len(known) == _TIMED_PAIRS else None, median(first) / median(second))
