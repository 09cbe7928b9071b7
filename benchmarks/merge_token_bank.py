"""Seconds and memory of tools/merge_token_bank.py on a synthetic bank.

    python benchmarks/merge_token_bank.py                            # 20 million tokens in rollouts of 262,144
    python benchmarks/merge_token_bank.py --tokens 2000000 --raw     # with both raw top-k lists
    python benchmarks/merge_token_bank.py --tokens 1000000 --rollout-tokens 512    # many small rollouts

The bank is written by ta_opd's own writer: one scored rollout of random top-k lists, written again under every id.
Prints one JSON record: tokens, rollouts, bytes in and out, wall and CPU seconds of the command, tokens a second, and
the peak resident memory of its process (some 300 MB of which are torch and pyarrow, loaded). The goal it is held
against: 20 million tokens in well under 1 GB.
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
import torch
from selection import random_supports
from ta_opd import Options, select_tokens, token_scores
from ta_opd.token_bank.bank import write_rollout
from ta_opd.token_bank.columns import Rollout, token_columns

TOOL = Path(__file__).resolve().parent.parent / "tools" / "merge_token_bank.py"
RESPONSE_LENGTH = 8192


def write_bank(bank: Path, tokens: int, rollout_tokens: int, options: Options) -> int:
    """Returns the number of rollouts."""
    supports = random_supports(rollout_tokens, options.topk_metrics_k, seed=0)
    samples = -(-rollout_tokens // RESPONSE_LENGTH)
    lengths = torch.full((samples,), RESPONSE_LENGTH)
    lengths[-1] = rollout_tokens - RESPONSE_LENGTH * (samples - 1)
    ids = supports.student.ids[:, 0].long()
    mask = torch.ones(rollout_tokens, dtype=torch.int)
    scores = token_scores(supports, options.score_variant, ids)
    rollout = Rollout(
        rollout_id=0,
        seed=0,
        supports=supports,
        token_ids=ids,
        student_logprob=supports.student.logprobs[:, 0],
        teacher_logprob=supports.teacher.logprobs[:, 0],
        loss_mask=mask,
        lengths=lengths,
        prompt_lengths=torch.full((samples,), 100),
        sample_index=torch.arange(samples),
        group_index=torch.arange(samples) // 2,
        truncated=torch.zeros(samples, dtype=torch.bool),
    )
    selection = select_tokens(scores, mask, lengths, options)
    blocks = list(token_columns(rollout, scores, selection, options))
    count = max(1, tokens // rollout_tokens)
    for rollout_id in range(count):
        for columns in blocks:
            columns["rollout_id"] = np.full(len(columns["token_id"]), rollout_id, np.int64)
        write_rollout(bank, rollout_id, blocks, options)
    return count


def merged(bank: Path, output: Path, flags: list[str]) -> dict[str, float]:
    """Seconds and memory of the command. Raises CalledProcessError where it fails."""
    command = [sys.executable, str(TOOL), str(bank), "--output", str(output), *flags]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(usage.ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=20_000_000)
    parser.add_argument("--rollout-tokens", type=int, default=262_144)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--raw", action="store_true", help="the bank keeps both raw top-k lists")
    parser.add_argument("--drop-raw-topk", action="store_true", help="the merge leaves them out")
    parser.add_argument("--format", choices=("parquet", "csv", "jsonl"), default="parquet")
    parser.add_argument("--directory", type=Path, help="where the bank goes for the time being (default: $TMPDIR)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    options = Options(
        topk_metrics_k=arguments.k,
        budget_mask="teachability",
        budget_ratio=0.1,
        token_bank_raw_topk=arguments.raw,
        token_bank_format=arguments.format,
    )
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        bank, output = Path(directory) / "token_bank", Path(directory) / "merged.parquet"
        rollouts = write_bank(bank, arguments.tokens, arguments.rollout_tokens, options)
        tokens = rollouts * arguments.rollout_tokens
        record = {
            "tokens": tokens,
            "rollouts": rollouts,
            "format": arguments.format,
            "raw_lists": arguments.raw,
            "drop_raw_topk": arguments.drop_raw_topk,
            "bytes_in": sum(path.stat().st_size for path in bank.glob("rollout_*")),
        }
        record |= merged(bank, output, ["--drop-raw-topk"] if arguments.drop_raw_topk else [])
        record |= {"bytes_out": output.stat().st_size, "tokens_a_second": round(tokens / record["seconds"])}
    print(json.dumps(record))


if __name__ == "__main__":
    main()
