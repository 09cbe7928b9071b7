"""A small SGLang-shaped /generate on a real socket, with faults on demand.

It is a bigram model: row t of `table`, log-probs [V, V], is what follows token t. A fault is a function of (teacher,
request, payload) that answers in place of the teacher; faults are taken from `script`, one for each request.
"""

import asyncio
import base64
import json

import numpy as np
from aiohttp import web


class FakeTeacher:
    def __init__(self, vocabulary=48, offers=("nested",), tells_vocabulary=True, model_path="", limit=4096, delay=0.0):
        logits = 3 * np.random.default_rng(vocabulary).standard_normal((vocabulary, vocabulary))
        self.table = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
        self.vocabulary, self.offers, self.tells_vocabulary = vocabulary, offers, tells_vocabulary
        self.model_path, self.limit, self.delay = model_path, limit, delay
        self.script, self.payloads, self.peers, self.probes = [], [], set(), 0
        self.in_flight = self.most_in_flight = 0
        self._busy = set()
        self.port, self._runner = 0, None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/generate"

    async def start(self):
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/generate", self._generate)
        app.router.add_get("/model_info", self._model_info)
        app.router.add_get("/server_info", self._server_info)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]

    async def stop(self):
        """Vanish: connections break, whatever was in flight."""
        for transport in self._busy:
            transport.abort()
        await self._runner.cleanup()

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *error):
        await self.stop()

    async def _model_info(self, request):
        self.probes += 1
        return web.json_response({"model_path": self.model_path, "tokenizer_path": "tokenizer"})

    async def _server_info(self, request):
        return web.json_response({"version": "0.0", "max_req_input_len": self.limit})

    async def _generate(self, request):
        payload = await request.json()
        if payload.get("token_ids_logprob") == [-1] and self.tells_vocabulary:
            told = f"token_ids_logprob contains -1; valid range is [0, {self.vocabulary})."
            return web.json_response({"error": {"message": told}}, status=400)
        if payload.get("token_ids_logprob") == [-1]:
            return web.json_response({"text": ""})
        self.payloads.append(payload)
        self.peers.add(request.transport.get_extra_info("peername"))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self._busy.add(request.transport)
        try:
            await asyncio.sleep(self.delay)
            if self.script:
                return await self.script.pop(0)(self, request, payload)
            return web.json_response(self.answer(payload))
        finally:
            self.in_flight -= 1
            self._busy.discard(request.transport)

    def logprobs(self, tokens, response_length):
        """float32 [R, V]: what the teacher gives every token at each response position."""
        return self.table[np.asarray(tokens)[-response_length - 1 : -1]]

    def answer(self, payload):
        tokens, start = payload["input_ids"], payload["logprob_start_len"]
        dense = self.table[np.asarray(tokens[start:-1])]
        written = [token if token < self.vocabulary - 1 else 0 for token in tokens]  # as SGLang does
        sampled = [[None, written[start], None]]
        for row, token, shown in zip(dense, tokens[start + 1 :], written[start + 1 :], strict=True):
            sampled.append([float(row[token]), shown, None])
        meta = {"prompt_tokens": len(tokens), "finish_reason": {"type": "length", "length": 0}}
        meta |= {"input_token_logprobs": sampled, "output_token_logprobs": []}
        if payload.get("top_logprobs_num"):
            ids = np.argsort(-dense, axis=1, kind="stable")[:, : payload["top_logprobs_num"]]
            meta |= self._top(np.take_along_axis(dense, ids, 1), ids, payload)
        if payload.get("token_ids_logprob"):
            ids = np.tile(payload["token_ids_logprob"], (len(dense), 1))
            meta["input_token_ids_logprobs"] = nested(np.take_along_axis(dense, ids, 1), ids)
        return {"text": "", "meta_info": meta}

    def _top(self, values, ids, payload):
        if "base64" in self.offers and payload.get("return_flat_raw_top_logprobs_b64"):
            return base64_form(values, ids)
        if "flat" in self.offers and payload.get("return_flat_raw_top_logprobs"):
            return flat_form(values, ids)
        return {"input_top_logprobs": nested(values, ids)}


def nested(values, ids):
    """Rows of triples behind the first position's null."""
    rows = zip(values.tolist(), ids.tolist(), strict=True)
    return [None, *([[v, i, None] for v, i in zip(*row, strict=True)] for row in rows)]


def flat_form(values, ids):
    return {
        "input_top_logprobs_val_flat": values.ravel().tolist(),
        "input_top_logprobs_idx_flat": ids.ravel().tolist(),
        "input_top_logprobs_shape": list(ids.shape),
        "input_top_logprobs_null_prefix": 1,
    }


def base64_form(values, ids):
    return {
        "input_top_logprobs_val_flat_b64": base64.b64encode(values.astype("<f4").tobytes()).decode(),
        "input_top_logprobs_idx_flat_b64": base64.b64encode(ids.astype("<i4").tobytes()).decode(),
        "input_top_logprobs_val_flat_b64_dtype": "float32",
        "input_top_logprobs_idx_flat_b64_dtype": "int32",
        "input_top_logprobs_shape": list(ids.shape),
        "input_top_logprobs_null_prefix": 1,
    }


def status(code):
    async def fault(teacher, request, payload):
        return web.json_response({"error": {"message": f"status {code}"}}, status=code)

    return fault


def raw(body):
    async def fault(teacher, request, payload):
        return web.Response(body=body, content_type="application/json")

    return fault


def changed(change):
    """The right answer after change(meta_info)."""

    async def fault(teacher, request, payload):
        answer = teacher.answer(payload)
        change(answer["meta_info"])
        return web.Response(body=json.dumps(answer).encode(), content_type="application/json")

    return fault


async def reset(teacher, request, payload):
    request.transport.abort()
    return web.Response()


async def cut_off(teacher, request, payload):
    """The connection breaks in the middle of the body."""
    response = web.StreamResponse(headers={"Content-Length": "1000000"})
    await response.prepare(request)
    await response.write(b'{"meta_info"')
    request.transport.abort()
    return response


async def hang(teacher, request, payload):
    await asyncio.sleep(60)
