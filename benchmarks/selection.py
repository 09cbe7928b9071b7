"""Seconds and memory of scoring and selection over a whole rollout batch, on one thread.

    python benchmarks/selection.py                       # 2 million tokens, K = 16
    python benchmarks/selection.py --tokens 20000000 --top-only --json out.jsonl

Prints one JSON record a line: what, tokens, k, seconds (wall, median), user_seconds (median), microseconds a token,
peak memory of the process. The goals it is held against: scoring + selection at most 1.8 microseconds a token and
3 GB at 2M tokens and K = 16; exact top-n alone at most 25 ms at 2M and 250 ms at 20M.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ta_opd import Options, Supports, TopK, select_tokens, token_scores
from ta_opd.selection import select_top

VOCABULARY = 151_936
RESPONSE_LENGTH = 8192


def random_supports(tokens: int, k: int, seed: int) -> Supports:
    """Two top-k lists that share about two thirds of their ids, as neighbouring models' do; built in blocks."""
    generator = torch.Generator().manual_seed(seed)
    pool = k + k // 2
    student, teacher = (
        TopK(torch.empty(tokens, k, dtype=torch.int32), torch.empty(tokens, k, dtype=torch.float32)) for _ in range(2)
    )
    for start in range(0, tokens, 65_536):
        rows = slice(start, min(start + 65_536, tokens))
        n = rows.stop - rows.start
        spacing = VOCABULARY // pool
        ids = torch.randint(0, spacing, (n, pool), generator=generator, dtype=torch.int32)
        ids += torch.arange(pool, dtype=torch.int32) * spacing
        logprobs = torch.log_softmax(torch.randn(n, pool, generator=generator) * 3, dim=1)
        mine = torch.rand(n, pool, generator=generator).argsort(1)[:, :k]
        noisy = torch.log_softmax(logprobs + torch.randn(n, pool, generator=generator), dim=1)
        student.ids[rows], student.logprobs[rows] = ids[:, :k], logprobs[:, :k]
        teacher.ids[rows], teacher.logprobs[rows] = ids.gather(1, mine), noisy.gather(1, mine)
    return Supports(student, teacher)


def measured(what: str, tokens: int, k: int, repeats: int, function: Callable[[], object]) -> dict:
    """A warm-up, then medians of wall and user seconds."""
    function()
    wall, user = [], []
    for _ in range(repeats):
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_utime, time.perf_counter()
        function()
        wall.append(time.perf_counter() - started)
        user.append(resource.getrusage(resource.RUSAGE_SELF).ru_utime - before)
    seconds = statistics.median(wall)
    return {
        "what": what,
        "tokens": tokens,
        "k": k,
        "repeats": repeats,
        "seconds": round(seconds, 4),
        "user_seconds": round(statistics.median(user), 4),
        "microseconds_a_token": round(seconds / tokens * 1e6, 4),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def selection_records(tokens: int, k: int, methods: list[str], repeats: int):
    supports = random_supports(tokens, k, seed=0)
    inputs = sum(
        t.numel() * t.element_size() for p in (supports.student, supports.teacher) for t in (p.ids, p.logprobs)
    )
    yield {"what": "inputs", "tokens": tokens, "k": k, "gib": round(inputs / 2**30, 2)}
    samples = -(-tokens // RESPONSE_LENGTH)
    lengths = torch.full((samples,), RESPONSE_LENGTH)
    lengths[-1] = tokens - RESPONSE_LENGTH * (samples - 1)
    mask = torch.ones(tokens, dtype=torch.uint8)
    for method in methods:
        options = Options(topk_metrics_k=k, budget_mask=method, budget_ratio=0.1)

        def run(options=options):
            return select_tokens(token_scores(supports), mask, lengths, options)

        yield measured(f"score and select, {method}", tokens, k, repeats, run)


def top_records(tokens: int, repeats: int):
    """Exact top-n alone, on scores most of which lie near zero, as entropies do, and on the same in bf16 (ties)."""
    generator = torch.Generator().manual_seed(0)
    near_zero = torch.rand(tokens, generator=generator) * 1e-3
    scores = torch.where(
        torch.rand(tokens, generator=generator) < 0.6, near_zero, torch.randn(tokens, generator=generator).abs()
    )
    for name, values in (("float32", scores), ("bf16-rounded", scores.bfloat16().float())):
        keys = [values.numpy()]
        for ratio in (0.1, 0.5):
            n = int(tokens * ratio)
            record = measured(
                f"exact top-n, {name}, rho {ratio}", tokens, 0, repeats, lambda n=n, keys=keys: select_top(keys, n)
            )
            assert int(np.count_nonzero(select_top(keys, n))) == n
            yield record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=2_000_000)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--methods", nargs="+", default=["teachability", "entropy", "tip", "random"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--top-only", action="store_true", help="leave scoring out")
    parser.add_argument("--json", type=Path, help="also write the records here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    records = top_records(arguments.tokens, arguments.repeats)
    if not arguments.top_only:
        chosen = selection_records(arguments.tokens, arguments.k, arguments.methods, arguments.repeats)
        records = (record for part in (chosen, records) for record in part)
    for record in records:
        lines.append(json.dumps(record))
        print(lines[-1], flush=True)
    if arguments.json:
        arguments.json.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
