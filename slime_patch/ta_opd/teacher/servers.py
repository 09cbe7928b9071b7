"""The teacher's servers: their addresses, what each says of itself, and which one takes the next request."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .answer import TeacherFault

COOL_DOWN = 10.0
"""Seconds for which a server that failed is taken only when there is no other."""
PROBE_TIMEOUT = 30.0
RETRIED = frozenset({429, *range(500, 600)})
"""HTTP statuses that may pass."""

_VOCABULARY_TOLD = re.compile(r"valid range is \[0, (\d+)\)")


class PassingFault(TeacherFault):
    """A fault that another attempt may not meet."""


@dataclass(frozen=True)
class ServerFacts:
    """What a server says of itself; empty where it does not say.

    vocabulary: token ids are 0..vocabulary-1. context_length: the most tokens of one request, None where not told.
    wires: the forms of top-k it has answered in, none before its first answer.
    """

    url: str
    vocabulary: int
    context_length: int | None = None
    wires: tuple[str, ...] = ()
    version: str = ""
    model_path: str = ""
    tokenizer_path: str = ""


class Server:
    """One URL. load: requests that wait for it or are in flight. started: requests ever sent to it."""

    def __init__(self, url: str, concurrency: int) -> None:
        self.url = url
        self.slots = asyncio.Semaphore(concurrency)
        self.load = 0
        self.started = 0
        self._down_until = 0.0
        self._facts: ServerFacts | None = None
        self._probe: asyncio.Task[ServerFacts] | None = None

    async def facts(self, session: Any) -> ServerFacts:
        """Asked once; callers that come meanwhile wait for the same answer. A fault is not remembered."""
        if self._facts is None:
            if self._probe is None:
                self._probe = asyncio.create_task(probe(session, self.url))
                self._probe.add_done_callback(self._probed)
            await asyncio.shield(self._probe)
        assert self._facts is not None
        return self._facts

    def _probed(self, task: asyncio.Task[ServerFacts]) -> None:
        self._probe = None
        if not task.cancelled() and task.exception() is None:
            self._facts = task.result()

    def answered(self, wire: str) -> None:
        """The server works, and answered in this form."""
        self._down_until = 0.0
        if wire and self._facts is not None and wire not in self._facts.wires:
            self._facts = replace(self._facts, wires=(*self._facts.wires, wire))

    def failed(self) -> None:
        self._down_until = asyncio.get_running_loop().time() + COOL_DOWN

    @property
    def is_down(self) -> bool:
        return asyncio.get_running_loop().time() < self._down_until

    def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()


def least_loaded(servers: Iterable[Server], tried: Sequence[str]) -> Server:
    """A server that this request has not tried and that has not just failed, if there is one; of those the one with
    the fewest requests."""
    return min(servers, key=lambda server: (server.url in tried, server.is_down, server.load, server.started))


def generate_url(url: str) -> str:
    """The address of /generate. Raises ValueError unless url is one, or a server's address without a path."""
    parts = urlsplit(url.strip())
    path = parts.path.rstrip("/") or "/generate"
    if parts.scheme not in ("http", "https") or not parts.hostname or not path.endswith("/generate"):
        raise ValueError(
            f"teacher URL {url!r} must be http://host:port/generate; see --opd-teacher-url (if empty: --rm-url)"
        )
    return f"{parts.scheme}://{parts.netloc}{path}"


async def probe(session: Any, url: str) -> ServerFacts:
    """Ask a server for its facts.

    Raises PassingFault where it cannot be reached, TeacherFault "vocabulary_unknown" where its vocabulary cannot be
    learnt: a token id beyond it kills a server, so nothing is sent unchecked.
    """
    base = url.removesuffix("/generate")
    model = await _told(session, base, ("/model_info", "/get_model_info"))
    server = await _told(session, base, ("/server_info", "/get_server_info"))
    model_path = str(model.get("model_path") or server.get("model_path") or "")
    vocabulary = await _vocabulary_told(session, url) or _vocabulary_in(model_path)
    if vocabulary is None:
        raise TeacherFault(
            "vocabulary_unknown",
            f"{url} names no range of token ids (SGLang 0.5.15 does) and {model_path or 'its model path'}/config.json "
            "has no vocab_size here: upgrade the server or copy that config.json to the same path on this host",
        )
    # A server takes fewer tokens than either number says.
    limit = server.get("max_req_input_len")
    if limit is None:
        cards = (await _told(session, base, ("/v1/models",))).get("data") or [{}]
        limit = cards[0].get("max_model_len")
    return ServerFacts(
        url=url,
        vocabulary=vocabulary,
        context_length=None if limit is None else int(limit) - 1,
        version=str(server.get("version") or ""),
        model_path=model_path,
        tokenizer_path=str(model.get("tokenizer_path") or ""),
    )


async def _told(session: Any, base: str, paths: Sequence[str]) -> dict[str, Any]:
    """The JSON object at the first of these paths that the server has; empty where it has none."""
    for path in paths:
        status, text = await _ask(session.get(base + path, timeout=_timeout()), base + path)
        if status == 200:
            try:
                value = json.loads(text)
            except json.JSONDecodeError as error:
                raise PassingFault("malformed", f"{path} is no JSON: {error}") from error
            return value if isinstance(value, dict) else {}
    return {}


async def _vocabulary_told(session: Any, url: str) -> int | None:
    """SGLang refuses to score id -1 and names the range of ids that it has. A server that does not check reads the
    last id instead, which harms nothing."""
    question = {
        "input_ids": [0, 0],
        "sampling_params": {"max_new_tokens": 0},
        "return_logprob": True,
        "logprob_start_len": 0,
        "token_ids_logprob": [-1],
    }
    _, text = await _ask(session.post(url, json=question, timeout=_timeout()), url)
    told = _VOCABULARY_TOLD.search(text)
    return int(told[1]) if told else None


def _vocabulary_in(model_path: str) -> int | None:
    path = Path(model_path) / "config.json"
    if not model_path or not path.is_file():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    return config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")


async def _ask(request: Any, address: str) -> tuple[int, str]:
    import aiohttp

    try:
        async with request as response:
            text = (await response.read()).decode(errors="replace")
    except asyncio.TimeoutError as error:
        raise PassingFault("timeout", f"{address} did not answer in {PROBE_TIMEOUT:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise PassingFault("transport", f"{address}: {error}") from error
    if response.status in RETRIED:
        raise PassingFault(f"http_{response.status}", f"{address}: {text}")
    return response.status, text


def _timeout() -> Any:
    import aiohttp

    return aiohttp.ClientTimeout(total=PROBE_TIMEOUT)
