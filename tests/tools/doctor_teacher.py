"""A teacher's server for the doctor's tests: it generates, scores and can be made wrong in each way the doctor names.

It is the bigram model of FakeTeacher, in a thread of its own. Log-probs [T, V]: what follows each token.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading

import numpy as np
from aiohttp import web

from ..ta_opd.teacher.fake_teacher import FakeTeacher, nested

VERSION = "0.5.15.post1"


class DoctorTeacher(FakeTeacher):
    """uniform, scored_at: the model itself, or its scores, at another temperature. honours_temperature: scores follow
    the request's. shift, list_shift: positions by which numbers, or lists, come too late. jitter: nats of noise.
    without: fields that an answer lacks. status: of every scoring request. impossible: response tokens scored -inf.
    counts_cache: cached_tokens is told, and whether a prompt is found again."""

    def __init__(
        self,
        uniform=False,
        knows_text=True,
        scored_at=1.0,
        honours_temperature=False,
        shift=0,
        list_shift=0,
        jitter=0.0,
        crowd_jitter=0.0,
        without=(),
        status=200,
        impossible=False,
        counts_cache=True,
        caches=True,
        seed=0,
        version=VERSION,
        **more,
    ):
        super().__init__(**{"offers": ("flat", "base64"), "model_path": "models/teacher", **more})
        if uniform:
            self.table = np.full_like(self.table, -np.log(self.vocabulary))
        self.knows_text, self.scored_at, self.honours_temperature = knows_text, scored_at, honours_temperature
        self.shift, self.list_shift, self.jitter, self.crowd_jitter = shift, list_shift, jitter, crowd_jitter
        self.without, self.status, self.impossible = without, status, impossible
        self.counts_cache, self.caches, self.version = counts_cache, caches, version
        self.random, self.prompts = np.random.default_rng(seed), set()

    async def _server_info(self, request):
        return web.json_response({"version": self.version, "max_req_input_len": self.limit})

    async def _generate(self, request):
        if self.status != 200:
            return web.json_response({"error": {"message": "no"}}, status=self.status)
        return await super()._generate(request)

    def answer(self, payload):
        tokens = payload.get("input_ids") or self.read(payload["text"])
        asked = {**payload, "input_ids": tokens}
        meta = self.scored(asked)
        new = payload["sampling_params"]["max_new_tokens"]
        ids = self.write(tokens[-1], new, meta, asked) if new else []
        meta |= {"prompt_tokens": len(tokens), "finish_reason": {"type": "length", "length": new}}
        if self.counts_cache:
            prompt = tuple(tokens[: asked["logprob_start_len"]])
            meta["cached_tokens"] = len(prompt) if self.caches and prompt in self.prompts else 0
            self.prompts.add(prompt)
        return {"text": "", "output_ids": ids, "meta_info": {k: v for k, v in meta.items() if k not in self.without}}

    def read(self, text):
        """Likely ids for a text, or the least likely ones."""
        tokens = [sum(text.encode()) % self.vocabulary]
        for character in text:
            best = np.argsort(-self.table[tokens[-1]])
            tokens.append(int(best[ord(character) % 2 if self.knows_text else -1 - ord(character) % 2]))
        return tokens

    def write(self, last, new, meta, asked):
        """Sampled ids; their log-probs go into meta."""
        rows, ids = [], []
        for _ in range(new):
            rows.append(self.table[last])
            probabilities = np.exp(rows[-1].astype(np.float64))
            last = int(self.random.choice(self.vocabulary, p=probabilities / probabilities.sum()))
            ids.append(last)
        meta["output_token_logprobs"] = [[float(row[id_]), id_, None] for row, id_ in zip(rows, ids, strict=True)]
        order = np.argsort(-np.array(rows), axis=1)[:, : asked["top_logprobs_num"]]
        meta["output_top_logprobs"] = nested(np.take_along_axis(np.array(rows), order, 1), order)[1:]
        return ids

    def scored(self, asked):
        tokens, start = asked["input_ids"], asked["logprob_start_len"]
        generates = asked["sampling_params"]["max_new_tokens"] > 0
        temperature = 1.0 if generates else self.scored_at
        if self.honours_temperature:
            temperature *= asked["sampling_params"]["temperature"]
        dense = self.table[np.asarray(tokens[start:-1], int)] / temperature
        dense = dense - np.log(np.exp(dense).sum(1, keepdims=True))
        following = np.asarray(tokens[start + 1 :], int)
        own = dense[np.arange(len(following)), following]
        if not generates:
            noise = self.jitter + (self.crowd_jitter if self.in_flight > 1 else 0.0)
            own = np.roll(own, self.shift) - np.abs(noise * self.random.standard_normal(len(own)))
        told = [[float(value), int(id_), None] for value, id_ in zip(own, following, strict=True)]
        if self.impossible and not generates:
            told = [[None, id_, None] for _, id_, _ in told]
        meta = {"input_token_logprobs": [[None, tokens[start], None], *told], "output_token_logprobs": []}
        if asked.get("top_logprobs_num"):
            rolled = np.roll(dense, self.list_shift, axis=0)
            ids = np.argsort(-rolled, axis=1, kind="stable")[:, : asked["top_logprobs_num"]]
            meta |= self._top(np.take_along_axis(rolled, ids, 1), ids, asked)
        if asked.get("token_ids_logprob"):
            ids = np.tile(asked["token_ids_logprob"], (len(dense), 1))
            meta["input_token_ids_logprobs"] = nested(np.take_along_axis(dense, ids, 1), ids)
        return meta


@contextlib.contextmanager
def serving(*teachers):
    """The teachers answer while the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        for teacher in teachers:
            asyncio.run_coroutine_threadsafe(teacher.start(), loop).result(30)
        yield
    finally:
        for teacher in teachers:
            asyncio.run_coroutine_threadsafe(teacher.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
