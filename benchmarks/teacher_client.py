"""User CPU time and memory that the teacher client costs a sample, against slime's own reward functions.

    SLIME_DIR=/path/to/slime python benchmarks/teacher_client.py
    python benchmarks/teacher_client.py --length 1024 --in-flight 64        # ours alone, small

A server in a process of its own sends answers serialised beforehand, in SGLang's forms; every measurement is a fresh
process. Client: TeacherClient.score() up to the arrays of a TeacherSignal. Hooks: our whole path, reward_func and
post_process_rewards, which scores every token where there are lists and packs the carrier. slime's: the same two
functions of SLIME_DIR/slime/rollout/on_policy_distillation.py, with a stand-in for its Sample and its image encoder.

slime asks for sampled log-probs only (K = 0, the first row). In the other rows it is sent the nested form of the same
numbers, byte for byte the body that ours gets in the nested rows, whatever it asked for: it reads all of it and keeps
the sampled log-probs alone, while ours keeps the top-k too. The goals: 3 times less user CPU than slime's for K = 16
nested, 10 times less for K = 64 base64, and 512 samples in flight within 1 GB beyond the arrays they end as.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import types
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from ta_opd.slime_options import SlimeOptions
from ta_opd.teacher.client import TeacherClient, client_for
from ta_opd.teacher.request import ScoreRequest
from ta_opd.teacher.signal import TeacherSignal, TopKRows

VOCABULARY = 151_936
PROMPT = 512
ROWS = ((0, "nested"), (16, "nested"), (16, "flat"), (16, "base64"), (64, "nested"), (64, "flat"), (64, "base64"))
GOALS = {(16, "nested"): 3.0, (64, "base64"): 10.0}
IN_FLIGHT_ROWS = ((16, "nested"), (64, "base64"))
MEMORY_GOAL_GB = 1.0


def tokens_of(length: int) -> list[int]:
    """One prompt and one response for all samples, the same in every process."""
    return np.random.default_rng(0).integers(0, VOCABULARY, PROMPT + length).tolist()


def top_k_of(length: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """ids int32 and logprobs float32 [length, k], best first."""
    generator = np.random.default_rng(k)
    spacing = VOCABULARY // k
    ids = generator.integers(0, spacing, (length, k)) + np.arange(k) * spacing
    logits = np.sort(generator.standard_normal((length, k)) * 3)[:, ::-1]
    logprobs = logits - np.log(np.exp(logits).sum(1, keepdims=True)) - 0.01
    return generator.permuted(ids, axis=1).astype(np.int32), logprobs.astype(np.float32)


def answer(length: int, k: int, form: str) -> bytes:
    """What SGLang 0.5.23 sends for logprob_start_len one before the response."""
    tokens = tokens_of(length)[PROMPT - 1 :]
    sampled = (-np.random.default_rng(1).exponential(2, length)).astype(np.float32).tolist()
    meta: dict[str, Any] = {
        "id": "0" * 32,
        "finish_reason": {"type": "length", "length": 0},
        "prompt_tokens": PROMPT + length,
        "input_token_logprobs": [[p, t, None] for p, t in zip([None, *sampled], tokens, strict=True)],
        "output_token_logprobs": [],
    }
    if k:
        ids, logprobs = top_k_of(length, k)
        if form == "nested":
            pairs = zip(logprobs.tolist(), ids.tolist(), strict=True)
            rows = [[[p, i, None] for p, i in zip(*pair, strict=True)] for pair in pairs]
            meta["input_top_logprobs"] = [None, *rows]
        else:
            for name, values in (("val", logprobs), ("idx", ids)):
                key = f"input_top_logprobs_{name}_flat"
                if form == "base64":
                    meta[f"{key}_b64"] = base64.b64encode(values.tobytes()).decode()
                    meta[f"{key}_b64_dtype"] = str(values.dtype)
                else:
                    meta[key] = values.ravel().tolist()
            meta |= {"input_top_logprobs_shape": [length, k], "input_top_logprobs_null_prefix": 1}
    return json.dumps({"text": "", "output_ids": [], "meta_info": meta}, separators=(",", ":")).encode()


def serve(length: int) -> None:
    """Answers POST /K/FORM/generate until standard input closes; prints its port when it is ready."""
    from aiohttp import web

    bodies = {(str(k), form): answer(length, k, form) for k, form in ROWS}
    facts = {"model_path": "replayed", "max_req_input_len": 10 * (PROMPT + length), "version": "replayed"}
    told = {"error": {"message": f"out-of-vocabulary token id -1; valid range is [0, {VOCABULARY})."}}

    async def generate(request: web.Request) -> web.Response:
        asked = await request.read()
        if b'"token_ids_logprob"' in asked:
            return web.json_response(told, status=400)
        body = bodies[request.match_info["k"], request.match_info["form"]]
        return web.Response(body=body, content_type="application/json")

    async def tell(request: web.Request) -> web.Response:
        return web.json_response(facts)

    async def run() -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/{k}/{form}/generate", generate)
        app.router.add_get("/{k}/{form}/{name}", tell)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()

    asyncio.run(run())


def user_seconds() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def measure(run: Any, samples: int, repeats: int) -> dict[str, float]:
    """Medians a sample, after a warm-up of one. run(n) works through n samples at once and returns their arrays."""
    run(1)
    user, wall = [], []
    for _ in range(repeats):
        before, started = user_seconds(), time.perf_counter()
        run(samples)
        wall.append((time.perf_counter() - started) / samples)
        user.append((user_seconds() - before) / samples)
    return {"user_ms": 1e3 * statistics.median(user), "wall_ms": 1e3 * statistics.median(wall)}


class OurRun:
    """One client over all runs, as in training: it learns what its server is in the warm-up."""

    def __init__(self, url: str, length: int, k: int, concurrency: int = 64) -> None:
        self.url, self.k, self.length, self.tokens = url, k, length, tokens_of(length)
        self.options = SlimeOptions(teacher_concurrency=concurrency)
        self.loop = asyncio.new_event_loop()
        self.client: TeacherClient | None = None

    def __call__(self, n: int) -> list[TeacherSignal]:
        return self.loop.run_until_complete(self._score(n))

    async def _score(self, n: int) -> list[TeacherSignal]:
        if self.client is None:
            self.client = TeacherClient(self.options, [self.url])
        requests = [ScoreRequest(self.tokens, self.length, self.k) for _ in range(n)]
        signals = await asyncio.gather(*map(self.client.score, requests))
        assert not any(signal.failure for signal in signals), {signal.failure for signal in signals}
        return signals

    def close(self) -> None:
        self.loop.run_until_complete(self.client.close())
        self.loop.close()


def stand_in_modules(**modules: dict[str, Any]) -> None:
    """Modules of slime by name (dots as __), holding these names."""
    for name, names in modules.items():
        name = name.replace("__", ".")
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(names)


class Sample:
    """What the reward hooks read and write of slime's Sample."""

    class Status(Enum):
        COMPLETED = "completed"
        ABORTED = "aborted"
        TRUNCATED = "truncated"

    multimodal_inputs = loss_mask = rollout_id = custom_rm_path = None
    remove_sample, status = False, Status.COMPLETED

    def __init__(self, tokens: list[int], length: int, student: TopKRows | None = None) -> None:
        self.tokens, self.response_length, self.reward, self.metadata = tokens, length, None, {}
        self.index, self.group_index, self.rollout_log_probs = 0, 0, [-1.0] * length
        if student is not None:
            self.opd_student = student

    def get_reward_value(self, args: Any) -> Any:
        return self.reward


class HooksRun:
    """Our reward hooks over one event loop, as in training; keeping every token, as slime does."""

    def __init__(self, url: str, length: int, k: int) -> None:
        sys.path.insert(0, str(Path(__file__).parents[1] / "slime_patch"))
        stand_in_modules(slime__utils__misc={"load_function": None})
        from slime.rollout import on_policy_distillation as hooks
        from slime.utils.opd_versions import PATHS

        self.hooks, self.length, self.tokens = hooks, length, tokens_of(length)
        self.student = TopKRows(*top_k_of(length, k)) if k else None
        self.args = argparse.Namespace(
            use_opd=True,
            opd_type="sglang",
            opd_topk_metrics_k=k,
            rm_url=url,
            rm_type=None,
            ta_opd_rollout=0,
            custom_advantage_function_path=PATHS["custom_advantage_function_path"],
        )
        self.loop = asyncio.new_event_loop()

    def __call__(self, n: int) -> list[Any]:
        samples = [Sample(self.tokens, self.length, self.student) for _ in range(n)]
        for sample, value in zip(samples, self.loop.run_until_complete(self._rewards(samples)), strict=True):
            sample.reward = value
        self.hooks.post_process_rewards(self.args, samples)
        return [sample.teacher_log_probs for sample in samples]

    async def _rewards(self, samples: list[Sample]) -> list[Any]:
        return await self.hooks.reward_func(self.args, samples)

    def close(self) -> None:
        async def close_client() -> None:
            options = tip_compat.slime_options(self.args)
            await client_for(options, tip_compat.teacher_urls(self.args, options)).close()

        from slime.rollout import tip_compat

        self.loop.run_until_complete(close_client())
        self.loop.close()


def slime_run(url: str, length: int, slime_dir: str) -> Any:
    stand_in_modules(
        slime={},
        slime__utils={},
        slime__utils__processing_utils={"encode_image_for_rollout_engine": None},
        slime__utils__types={"Sample": Sample},
    )
    path = Path(slime_dir) / "slime" / "rollout" / "on_policy_distillation.py"
    spec = importlib.util.spec_from_file_location("slimes_own", path)
    upstream = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(upstream)
    args = types.SimpleNamespace(rm_url=url, rollout_temperature=1.0, reward_key=None)
    tokens = tokens_of(length)

    async def reward(samples: list[Sample]) -> list[Any]:
        return await asyncio.gather(*(upstream.reward_func(args, sample) for sample in samples))

    def run(n: int) -> list[Any]:
        samples = [Sample(tokens, length) for _ in range(n)]
        for sample, value in zip(samples, asyncio.run(reward(samples)), strict=True):
            sample.reward = value
        upstream.post_process_rewards(args, samples)
        return [sample.teacher_log_probs for sample in samples]

    return run


def in_flight(url: str, length: int, k: int, n: int) -> dict[str, float]:
    """Growth of the peak resident memory, in GB, over n samples at once, and the arrays that they leave."""
    with contextlib.closing(OurRun(url, length, k, concurrency=n)) as run:
        run(1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        signals = run(n)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    arrays = sum(s.logprobs.nbytes + s.topk.ids.nbytes + s.topk.logprobs.nbytes for s in signals) / 2**30
    return {"growth_gb": growth, "arrays_gb": arrays, "beyond_gb": growth - arrays}


def child(options: argparse.Namespace, role: str, **values: Any) -> dict[str, float]:
    """The record that a fresh process in this role prints."""
    flags = [f"--{name}={value}" for name, value in vars(options).items() if name not in ("role", *values)]
    flags += [f"--{name}={value}" for name, value in values.items()]
    flags = [flag.replace("_", "-", flag.partition("=")[0].count("_")) for flag in flags]
    done = subprocess.run([sys.executable, __file__, f"--role={role}", *flags], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return f"{os.cpu_count()} cores, {model}, Python {sys.version.split()[0]}"


def report(options: argparse.Namespace, port: int, slime_dir: str) -> None:
    print(f"    {'SLIME_DIR=... ' if slime_dir else ''}python benchmarks/teacher_client.py {' '.join(sys.argv[1:])}")
    print(f"\n{machine()}. Answers of {options.length:,} tokens; user CPU time a sample, median of {options.repeats}")
    print(f"runs of {options.samples} samples at once.")
    if not slime_dir:
        print("SLIME_DIR is not set: ours alone, nothing to compare with.")
    print("\n| K | ours reads | client, ms | hooks, ms | slime's, nested, ms | slime / client | slime / hooks | goal |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    slimes: dict[int, float] = {}
    for k, form in ROWS:
        url = f"http://127.0.0.1:{port}/{k}/{form}/generate"
        ours, hooks = (child(options, role, url=url, k=k)["user_ms"] for role in ("ours", "hooks"))
        if slime_dir and k not in slimes:
            slimes[k] = child(options, "slime", url=url.replace(form, "nested"), k=k)["user_ms"]
        theirs = "- | - | -"
        if slime_dir:
            theirs = f"{slimes[k]:.1f} | {slimes[k] / ours:.1f} | {slimes[k] / hooks:.1f}"
        goal = f"{GOALS[k, form]:g}" if (k, form) in GOALS else ""
        print(f"| {k} | {form if k else 'sampled'} | {ours:.1f} | {hooks:.1f} | {theirs} | {goal} |", flush=True)
    print(
        f"\n| {options.in_flight} in flight | growth of peak memory, GB | arrays, GB | beyond the arrays, GB | goal |"
    )
    print("|---|---:|---:|---:|---:|")
    for k, form in IN_FLIGHT_ROWS:
        url = f"http://127.0.0.1:{port}/{k}/{form}/generate"
        memory = child(options, "in_flight", url=url, k=k)
        numbers = " | ".join(f"{memory[name]:.2f}" for name in ("growth_gb", "arrays_gb", "beyond_gb"))
        print(f"| K = {k}, {form} | {numbers} | {MEMORY_GOAL_GB:g} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=8192, help="response tokens of a sample")
    parser.add_argument("--samples", type=int, default=8, help="samples at once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=512, help="samples at once for the measurement of memory")
    for internal in ("--role", "--url"):
        parser.add_argument(internal, default="", help=argparse.SUPPRESS)
    parser.add_argument("--k", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    slime_dir = os.environ.get("SLIME_DIR", "")
    if options.role == "serve":
        serve(options.length)
    elif options.role == "ours":
        with contextlib.closing(OurRun(options.url, options.length, options.k)) as run:
            print(json.dumps(measure(run, options.samples, options.repeats)))
    elif options.role == "hooks":
        with contextlib.closing(HooksRun(options.url, options.length, options.k)) as run:
            print(json.dumps(measure(run, options.samples, options.repeats)))
    elif options.role == "slime":
        run = slime_run(options.url, options.length, slime_dir)
        print(json.dumps(measure(run, options.samples, options.repeats)))
    elif options.role == "in_flight":
        print(json.dumps(in_flight(options.url, options.length, options.k, options.in_flight)))
    else:
        command = [sys.executable, __file__, "--role=serve", f"--length={options.length}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            report(options, int(server.stdout.readline()), slime_dir)
            server.stdin.close()


if __name__ == "__main__":
    main()
