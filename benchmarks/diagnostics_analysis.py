"""Seconds and memory of the fixed-context analysis and of replaying masks on a token bank, on one core.

    python benchmarks/diagnostics_analysis.py                       # 300 x 192 tokens, 1,000 bootstraps; 20M tokens
    python benchmarks/diagnostics_analysis.py --replay-tokens 0     # the analysis alone

Prints one JSON record a line: what, tokens, seconds (wall), user_seconds, peak_gib. Each part is a process of its own,
reading and writing files as its command does. The goals it is held against: 57,600 tokens with 1,000 bootstraps in at
most 20 s; a bank of 20 million tokens replayed within 2 GB. Merging such a bank: benchmarks/merge_token_bank.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fixed_context.replay.selector_replay import BANK_SCORES
from fixed_context.schema import write_parquet
from ta_opd.token_bank.columns import SCHEMA_VERSION

TOOLS = Path(__file__).resolve().parents[1] / "tools"
ROLLOUT = 500_000
RESPONSE = 4000
KS = (8, 32)


def gain_file(path: Path, prompts: int, tokens: int) -> None:
    """A metrics file of K = 16 and the extra KS with a planted learnable effect."""
    rng = np.random.default_rng(0)
    n = prompts * tokens
    prompt = np.repeat(np.arange(prompts), tokens)
    before, c = rng.lognormal(-0.7, 0.8, n), rng.beta(2, 1.5, n)
    gain = 0.1 * before * c + 0.1 * (rng.normal(size=n) + rng.normal(size=prompts)[prompt])
    columns = {
        "schema_version": np.full(n, 1, np.int32),
        "context_id": [f"{p:016x}" for p in prompt],
        "prompt_id": [f"{p:016x}" for p in prompt],
        "tok_pos": np.tile(np.arange(tokens, dtype=np.int32), prompts),
        "pos_norm": np.tile(np.arange(tokens) / (tokens - 1), prompts),
        "token_id": rng.integers(0, 50_000, n).astype(np.int32),
        "loss_mask": np.ones(n, np.int8),
        "base_Hs": rng.exponential(0.6, n),
        "base_Ht": rng.exponential(0.3, n),
        "base_KLf": before,
        "KLf": before - gain,
        "G_KLf": gain,
        "base_KLr": before * rng.lognormal(0, 0.2, n),
    }
    for suffix in ("", *(f"_k{k}" for k in KS)):
        columns |= {f"base_KLf_union{suffix}": before * rng.lognormal(0, 0.05, n), f"base_Cmass_exact{suffix}": c}
    write_parquet(path, pa.table(columns), {"schema_version": 1, "topk": 16})


def bank_file(path: Path, tokens: int) -> None:
    """A merged bank: rollouts of at most ROLLOUT tokens, written row group after row group."""
    rng, writer, done, rollout = np.random.default_rng(0), None, 0, 0
    while done < tokens:
        n = min(ROLLOUT, tokens - done)
        sample = np.arange(n) // RESPONSE
        columns = {
            "schema_version": np.full(n, SCHEMA_VERSION, np.int32),
            "rollout_id": np.full(n, rollout),
            "sample_ordinal": sample,
            "group_index": sample // 8,
            "pos_norm": (np.arange(n) % RESPONSE) / (RESPONSE - 1),
            "loss_mask_original": np.ones(n, np.int8),
            "teacher_logp_sampled": -rng.random(n, np.float32),
            "budget_method": np.full(n, "dlearn_high"),
            "budget_ratio": np.full(n, 0.1),
            "budget_keep": (rng.random(n) < 0.1).astype(np.int8),
        } | {name: rng.random(n, np.float32) for name in BANK_SCORES.values()}
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="none", use_dictionary=["budget_method"])
        writer.write_table(table, row_group_size=131_072)
        done, rollout = done + n, rollout + 1
    writer.close()


def measured(what: str, tokens: int, command: list[str]) -> dict:
    """Wall and user seconds and peak memory of a process; raises where it fails."""
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {
        "what": what,
        "tokens": tokens,
        "seconds": round(time.perf_counter() - started, 2),
        "user_seconds": round(usage.ru_utime, 2),
        "peak_gib": round(usage.ru_maxrss / 2**20, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=192, help="of each prompt")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--replay-tokens", type=int, default=20_000_000, help="0 leaves the replay out")
    parser.add_argument("--methods", default="teachability:0.10 entropy:0.10 tip:0.10 random:0.10")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        gain_file(root / "gain.parquet", arguments.prompts, arguments.tokens)
        size = arguments.prompts * arguments.tokens
        command = [str(TOOLS / "analyze_fixed_context_gain.py"), "--input", str(root / "gain.parquet")]
        command += ["--bootstrap", str(arguments.bootstrap), "--output-dir", str(root / "gain")]
        print(json.dumps(measured(f"analysis, {arguments.bootstrap} bootstraps", size, command)), flush=True)
        if arguments.replay_tokens:
            bank_file(root / "bank.parquet", arguments.replay_tokens)
            command = [str(TOOLS / "replay_masks.py"), "--input", str(root / "bank.parquet")]
            command += ["--methods", arguments.methods, "--output-dir", str(root / "replay")]
            print(json.dumps(measured(f"replay, {arguments.methods}", arguments.replay_tokens, command)), flush=True)


if __name__ == "__main__":
    main()
