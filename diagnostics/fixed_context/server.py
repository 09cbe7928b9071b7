"""A teacher behind SGLang servers: its sampled log-probs, top-k lists and, where asked, log-probs at the student's ids.

Whole distributions do not cross the wire, so entropy and divergences over the vocabulary are not known of it. Axes: N
response tokens of a shard, K entries of a list.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ta_opd import TopK
from ta_opd.slime_options import SlimeOptions
from ta_opd.teacher.answer import TeacherFault
from ta_opd.teacher.client import TeacherClient
from ta_opd.teacher.request import ScoreRequest
from ta_opd.teacher.servers import ServerFacts, generate_url
from ta_opd.teacher.signal import TeacherSignal

from .contexts import Context

_WHOLE_UNION = 2**31 - 1
_ATTEMPTS = 3


@dataclass(frozen=True)
class ServerRows:
    """sampled: float32 [N], log p_T, nats. top: the teacher's lists. on_student: float32 [N, K] or None, log p_T at the
    student's ids."""

    sampled: torch.Tensor
    top: TopK
    on_student: torch.Tensor | None


class ServerTeacher:
    """Servers at comma-separated URLs that serve one model. exact: ask also for the student's ids, for C itself."""

    def __init__(self, urls: str, k: int, exact: bool) -> None:
        self.urls, self.k, self.exact = [generate_url(url) for url in urls.split(",") if url.strip()], k, exact
        self._options = SlimeOptions(
            topk_metrics_k=k,
            exact_cmass=exact,
            exact_cmass_max_union=_WHOLE_UNION,
            exact_cmass_overflow="error",
            teacher_attempts=_ATTEMPTS,
        )

    def facts(self) -> ServerFacts:
        """Raises ValueError where a server cannot be reached, or where they serve different models."""

        async def ask() -> list[ServerFacts]:
            client = TeacherClient(self._options, self.urls)
            try:
                return [await client.server_facts(url) for url in self.urls]
            finally:
                await client.close()

        try:
            told = asyncio.run(ask())
        except TeacherFault as fault:
            raise ValueError(f"--teacher {', '.join(self.urls)}: {fault}") from fault
        models = {(facts.model_path, facts.vocabulary) for facts in told}
        if len(models) > 1:
            raise ValueError(f"--teacher: the servers serve different models: {sorted(models)}")
        return told[0]

    def check_contexts(self, contexts: Sequence[Context], facts: ServerFacts) -> None:
        """Raises ValueError naming contexts that are longer than the server takes."""
        if facts.context_length is None:
            return
        long = [c for c in contexts if len(c.prompt) + len(c.response) > facts.context_length]
        if long:
            raise ValueError(
                f"{len(long):,} of {len(contexts):,} contexts are longer than the {facts.context_length:,} tokens that "
                f"the teacher's server takes, first {long[0].context_id}: lower --max-response-tokens"
            )

    def rows(self, contexts: Sequence[Context], student_ids: np.ndarray | None) -> ServerRows:
        """student_ids: int32 [N, K], where to ask log p_T. Raises ValueError where a context gets no answer."""
        ends = np.cumsum([len(context.response) for context in contexts])
        requests = [
            ScoreRequest(
                np.concatenate([context.prompt, context.response]).tolist(),
                len(context.response),
                self.k,
                None if student_ids is None else student_ids[end - len(context.response) : end],
                label=context.context_id,
            )
            for context, end in zip(contexts, ends, strict=True)
        ]
        signals = asyncio.run(self._ask(requests))
        failures = Counter(signal.failure for signal in signals if signal.failure)
        if failures:
            first = next(c.context_id for c, s in zip(contexts, signals, strict=True) if s.failure)
            reasons = ", ".join(f"{count} {reason}" for reason, count in failures.most_common())
            raise ValueError(f"--teacher: {failures.total()} contexts got no answer ({reasons}), first {first}")
        return ServerRows(
            torch.from_numpy(np.concatenate([signal.logprobs for signal in signals])),
            TopK(
                torch.from_numpy(np.concatenate([signal.topk.ids for signal in signals])),
                torch.from_numpy(np.concatenate([signal.topk.logprobs for signal in signals])),
            ),
            None
            if student_ids is None
            else torch.from_numpy(np.concatenate([signal.on_student for signal in signals])),
        )

    async def _ask(self, requests: Sequence[ScoreRequest]) -> list[TeacherSignal]:
        client = TeacherClient(self._options, self.urls)
        try:
            return await asyncio.gather(*(client.score(request) for request in requests))
        finally:
            await client.close()
