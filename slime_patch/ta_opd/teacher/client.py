"""Asks the teacher's SGLang servers for log-probs of responses. A teacher that fails costs a sample its signal, never
the run.

Axes: R response tokens of one sample, K entries of the teacher's list, K_S of the student's.
"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..slime_options import SlimeOptions
from .answer import TeacherFault
from .quarantine import Quarantine
from .request import ScoreRequest, question_for
from .servers import RETRIED, PassingFault, Server, ServerFacts, generate_url, least_loaded
from .signal import TeacherSignal, TopKRows
from .wire import Answer, decode

BACK_OFF = 1.0
"""Seconds before the second attempt, doubled before each further one up to LONGEST_BACK_OFF, plus up to BACK_OFF."""
LONGEST_BACK_OFF = 30.0
BODIES_HELD = 4
"""Answers in memory at once, as bytes; others wait on the wire."""
DECODED_INLINE = 256 * 1024
"""Bytes up to which an answer is decoded in the event loop."""


@dataclass
class _Course:
    """What became of a request so far: the servers that were tried, the faults that were retried."""

    tried: list[str] = field(default_factory=list)
    faults: list[TeacherFault] = field(default_factory=list)


class TeacherClient:
    """One pooled HTTP session to the servers at `urls`, for one event loop; see client_for.

    counts: "scored", "retries", "nonfinite_tokens", "union_overflow", "wire_<form>", and each reason of a failure:
    "transport", "timeout", "http_<status>", "no_prompt", "too_long", "out_of_vocabulary" and those of
    wire.decode. Raises ValueError for what is no URL of a teacher.
    """

    def __init__(self, options: SlimeOptions, urls: Sequence[str]) -> None:
        self.options = options
        self.counts: Counter[str] = Counter()
        self._own = [self._new_server(url) for url in dict.fromkeys(map(generate_url, urls))]
        self._servers = {server.url: server for server in self._own}
        self._session: Any = None
        self.closed = False
        self._bodies = asyncio.Semaphore(BODIES_HELD)
        self._decoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="teacher-decode")
        path = options.teacher_quarantine
        if not path and options.token_bank_dir:
            path = str(Path(options.token_bank_dir) / "quarantine.jsonl")
        self._quarantine = Quarantine(path or None)

    async def score(self, request: ScoreRequest) -> TeacherSignal:
        """The teacher's signal about one sample; for a fault of the teacher, one without numbers that says why.

        Raises ValueError where no teacher is named or its vocabulary cannot be learnt.
        """
        n = request.response_length
        assert 0 <= n <= len(request.tokens), (n, len(request.tokens))
        assert request.student_ids is None or len(request.student_ids) == n, "one row for each response token"
        if n == 0:
            nothing = None if request.student_ids is None else np.empty(request.student_ids.shape, np.float32)
            return TeacherSignal(np.empty(0, np.float32), TopKRows.missing(0, request.top_k), nothing)
        course = _Course()
        try:
            answer = await asyncio.wait_for(self._attempts(request, course), self.options.teacher_timeout)
        except asyncio.TimeoutError:
            last = f"; before that {course.faults[-1]}" if course.faults else ""
            fault = TeacherFault("timeout", f"{self.options.teacher_timeout:g} s passed{last}")
            return self._absent(request, fault, course)
        except TeacherFault as fault:
            return self._absent(request, fault, course)
        self.counts["scored"] += 1
        if answer.wire:
            self.counts[f"wire_{answer.wire}"] += 1
        self.counts["nonfinite_tokens"] += int(np.isnan(answer.signal.logprobs).sum())
        return answer.signal

    async def server_facts(self, url: str) -> ServerFacts:
        """What the server at this URL says of itself; asked once. Raises TeacherFault where it cannot be reached after
        all attempts, ValueError where its vocabulary cannot be learnt."""
        server = self._server(url)
        async for attempt in self._retrying(_Course()):
            with attempt:
                return await server.facts(self._http())
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        """Close the connections; the client is of no further use."""
        self.closed = True
        for server in self._servers.values():
            server.close()
        self._decoder.shutdown(wait=False)
        if self._session is not None:
            await self._session.close()

    async def _attempts(self, request: ScoreRequest, course: _Course) -> Answer:
        async for attempt in self._retrying(course):
            with attempt:
                server = self._choose(request, course)
                course.tried.append(server.url)
                server.load += 1
                server.started += 1
                try:
                    answer = await self._ask(server, request)
                except PassingFault:
                    server.failed()
                    raise
                finally:
                    server.load -= 1
                server.answered(answer.wire)
                return answer
        raise AssertionError("the last attempt returns or raises")

    def _retrying(self, course: _Course) -> Any:
        import tenacity

        def note(state: Any) -> None:
            self.counts["retries"] += 1
            course.faults.append(state.outcome.exception())

        return tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self.options.teacher_attempts),
            wait=tenacity.wait_exponential(multiplier=BACK_OFF, max=LONGEST_BACK_OFF)
            + tenacity.wait_random(0, BACK_OFF),
            retry=tenacity.retry_if_exception_type(PassingFault),
            before_sleep=note,
            reraise=True,
        )

    async def _ask(self, server: Server, request: ScoreRequest) -> Answer:
        import aiohttp

        question = question_for(request, await server.facts(self._http()), self.options)
        timeout = aiohttp.ClientTimeout(total=self.options.teacher_request_timeout)
        body = io.BytesIO(question.body())
        async with AsyncExitStack() as held:
            try:
                async with (
                    server.slots,
                    self._http().post(server.url, data=body, timeout=timeout) as response,
                ):
                    if response.status != 200:
                        text = (await response.content.read(1000)).decode(errors="replace")
                        kind = PassingFault if response.status in RETRIED else TeacherFault
                        raise kind(f"http_{response.status}", text)
                    await held.enter_async_context(self._bodies)
                    said = await response.read()
            except asyncio.TimeoutError as error:
                seconds = self.options.teacher_request_timeout
                raise PassingFault("timeout", f"{server.url} did not answer in {seconds:g} s") from error
            except (aiohttp.ClientError, OSError) as error:
                raise PassingFault("transport", f"{server.url}: {error or type(error).__name__}") from error
            if len(said) <= DECODED_INLINE:
                answer = decode(said, question)
            else:
                answer = await asyncio.get_running_loop().run_in_executor(self._decoder, decode, said, question)
        self.counts["union_overflow"] += question.overflowed
        return answer

    def _choose(self, request: ScoreRequest, course: _Course) -> Server:
        if request.url is not None:
            try:
                return self._server(request.url)
            except ValueError as error:
                raise TeacherFault("bad_url", str(error)) from error
        if not self._own:
            raise TeacherFault("no_teacher", "give --opd-teacher-url or --rm-url")
        return least_loaded(self._own, course.tried)

    def _server(self, url: str) -> Server:
        url = generate_url(url)
        if url not in self._servers:
            self._servers[url] = self._new_server(url)
        return self._servers[url]

    def _new_server(self, url: str) -> Server:
        return Server(url, self.options.teacher_concurrency)

    def _http(self) -> Any:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                # The servers' slots are the limit; log-probs are not worth compressing on a cluster's network.
                connector=aiohttp.TCPConnector(limit=0),
                headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
                trust_env=False,
            )
        return self._session

    def _absent(self, request: ScoreRequest, fault: TeacherFault, course: _Course) -> TeacherSignal:
        self.counts[fault.reason] += 1
        self._quarantine.add(
            fault.reason,
            detail=fault.detail,
            label=request.label,
            urls=course.tried,
            prompt_length=len(request.tokens) - request.response_length,
            response_length=request.response_length,
            top_k=request.top_k,
        )
        return TeacherSignal.absent(request.response_length, request.top_k, fault.reason)


_clients: dict[tuple[asyncio.AbstractEventLoop, SlimeOptions, tuple[str, ...]], TeacherClient] = {}
_closing: set[asyncio.Task[None]] = set()


def client_for(options: SlimeOptions, urls: Iterable[str]) -> TeacherClient:
    """The running event loop's client for these options and URLs; those of closed loops are dropped.

    Raises RuntimeError where no event loop runs, ValueError for what is no URL of a teacher.
    """
    loop = asyncio.get_running_loop()
    for key in [key for key in list(_clients) if key[0].is_closed()]:
        client = _clients.pop(key, None)
        if client is not None:
            closing = loop.create_task(client.close())
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)
    key = (loop, options, tuple(urls))
    if key not in _clients or _clients[key].closed:
        _clients[key] = TeacherClient(options, key[2])
    return _clients[key]
