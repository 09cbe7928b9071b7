"""Seconds, memory and bytes of what follows a rollout: scoring, selection and the per-token table, on one thread.

    python benchmarks/post_process.py                                  # 256 samples of 8,192 tokens, K = 16, Parquet
    python benchmarks/post_process.py --samples 32768 --length 64 --format jsonl

The inputs are made by another process and read sample by sample, so that they are not measured. Prints one JSON
record a line: seconds of each phase (user and system CPU, wall), and at the end their total, the peak of the resident
memory above the interpreter's with everything imported (inputs included), the inputs alone, and bytes a token on disk.
The goals it is held against, at the defaults: 6 seconds in all, and a peak of three times the inputs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from selection import random_supports
from ta_opd import Options, Supports, TopK, select_tokens, token_scores
from ta_opd.token_bank.bank import write_rollout
from ta_opd.token_bank.columns import Rollout, token_columns
from torch import Tensor

assert pyarrow.parquet, "imported before the baseline is taken"
INPUTS = ("student_ids", "student_logprobs", "teacher_ids", "teacher_logprobs")
SAMPLED_LOGPROBS = ("student_logprob", "teacher_logprob")


def make_inputs(folder: Path, tokens: int, k: int) -> None:
    """Random lists, most probable entry first as a server gives them, and sampled tokens among the student's."""
    supports = random_supports(tokens, k, seed=0)
    generator = torch.Generator().manual_seed(1)
    sampled = torch.randint(0, k, (tokens, 1), generator=generator)
    student_logprob = supports.student.logprobs.gather(1, sampled)[:, 0]
    np.save(folder / "token_ids.npy", supports.student.ids.gather(1, sampled)[:, 0].numpy())
    np.save(folder / "student_logprob.npy", student_logprob.numpy())
    noise = torch.randn(tokens, generator=generator)
    np.save(folder / "teacher_logprob.npy", (student_logprob + 0.3 * noise).clamp_max(0).numpy())
    np.save(folder / "loss_mask.npy", (torch.rand(tokens, generator=generator) < 0.95).numpy().astype(np.int8))
    for name in ("student", "teacher"):
        topk = getattr(supports, name)
        order = topk.logprobs.argsort(1, descending=True)
        topk.ids.gather(1, order).numpy().tofile(folder / f"{name}_ids")
        topk.logprobs.gather(1, order).numpy().tofile(folder / f"{name}_logprobs")


def read_inputs(folder: Path, samples: int, length: int, k: int) -> tuple[list[Supports], dict[str, Tensor]]:
    """Supports of each sample in arrays of its own, as they arrive in training, and the numbers of each token."""

    def values(name: str, i: int) -> Tensor:
        kind = np.int32 if name.endswith("ids") else np.float32
        flat = np.fromfile(folder / name, kind, count=length * k, offset=i * length * k * 4)
        return torch.from_numpy(flat.reshape(length, k))

    def sample(i: int) -> Supports:
        s_ids, s_logprobs, t_ids, t_logprobs = (values(name, i) for name in INPUTS)
        return Supports(TopK(s_ids, s_logprobs), TopK(t_ids, t_logprobs))

    names = ("token_ids", *SAMPLED_LOGPROBS, "loss_mask")
    numbers = {name: torch.from_numpy(np.load(folder / f"{name}.npy")) for name in names}
    return [sample(i) for i in range(samples)], numbers


def measured(what: str, function: Callable[[], Any]) -> tuple[Any, dict]:
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    result = function()
    after, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - started
    return result, {
        "what": what,
        "user_seconds": round(after.ru_utime - before.ru_utime, 3),
        "system_seconds": round(after.ru_stime - before.ru_stime, 3),
        "seconds": round(wall, 3),
    }


def resident_bytes(kind: str) -> int:
    """VmRSS, resident memory now, or VmHWM, its peak (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {kind}")


def post_process(supports: list[Supports], numbers: dict[str, Tensor], length: int, options: Options, folder: Path):
    """The phases, each with its record; yields the path of the table last."""
    samples, mask = len(supports), numbers["loss_mask"]
    lengths = torch.full((samples,), length)
    scores, record = measured("score", lambda: token_scores(supports))
    yield record
    selection, record = measured("select", lambda: select_tokens(scores, mask, lengths, options))
    yield record
    rollout = Rollout(
        rollout_id=0,
        seed=0,
        supports=supports,
        **numbers,
        lengths=lengths,
        prompt_lengths=torch.full((samples,), 200),
        sample_index=torch.arange(samples),
        group_index=torch.arange(samples) // 8,
        truncated=torch.zeros(samples, dtype=torch.bool),
    )
    path, record = measured(
        "token bank", lambda: write_rollout(folder, 0, token_columns(rollout, scores, selection, options), options)
    )
    yield record
    yield path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--length", type=int, default=8192, help="response tokens of each sample")
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--format", default="parquet", choices=("parquet", "csv", "jsonl"))
    parser.add_argument("--method", default="teachability")
    parser.add_argument("--raw-topk", action="store_true", help="write both top-k lists too")
    parser.add_argument("--make-inputs", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokens = arguments.samples * arguments.length
    if arguments.make_inputs:
        make_inputs(arguments.make_inputs, tokens, arguments.k)
        return
    options = Options(
        topk_metrics_k=arguments.k,
        budget_mask=arguments.method,
        budget_ratio=0.1,
        token_bank_format=arguments.format,
        token_bank_raw_topk=arguments.raw_topk,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, *sys.argv, "--make-inputs", name], check=True)
        baseline = resident_bytes("VmRSS")
        supports, numbers = read_inputs(folder, arguments.samples, arguments.length, arguments.k)
        size = tokens * (arguments.k * 16 + len(SAMPLED_LOGPROBS) * 4)
        total: dict[str, float] = {}
        *records, path = post_process(supports, numbers, arguments.length, options, folder)
        peak = resident_bytes("VmHWM") - baseline
        for record in records:
            print(json.dumps(record))
            for key, value in record.items():
                if key != "what":
                    total[key] = round(total.get(key, 0) + value, 3)
        print(
            json.dumps(
                {
                    "what": "in all",
                    **total,
                    "tokens": tokens,
                    "samples": arguments.samples,
                    "k": arguments.k,
                    "inputs_gib": round(size / 2**30, 3),
                    "peak_gib": round(peak / 2**30, 3),
                    "peak_over_inputs": round(peak / size, 2),
                    "bytes_a_token": round(path.stat().st_size / tokens, 1),
                }
            )
        )


if __name__ == "__main__":
    main()
