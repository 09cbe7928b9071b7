"""Seconds, memory and bytes of slime's reward post-process under OPD: scoring, selection, carrier, per-token table.

    python benchmarks/post_process.py                                  # 256 samples of 8,192 tokens, K = 16, Parquet
    python benchmarks/post_process.py --samples 32768 --length 64 --format jsonl

Calls post_process_rewards itself, on one thread, first without and then with the token bank. The inputs are made by
another process and read sample by sample, so that they are not measured. Prints one JSON record a line: seconds (user
and system CPU, wall) of each call, and at the end the peak of the resident memory above the interpreter's with
everything imported and slime's own Python lists made (the top-k arrays included), the top-k arrays alone, and bytes a
token on disk.
The goals it is held against, at the defaults: 6 seconds with the token bank, and a peak of three times the arrays.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from selection import random_supports
from ta_opd.teacher.signal import TeacherSignal, TopKRows

sys.path.insert(0, str(Path(__file__).parents[1] / "slime_patch"))
from slime.rollout.on_policy_distillation import post_process_rewards
from slime.utils.opd_versions import PATHS

assert pyarrow.parquet, "imported before the baseline is taken"
LISTS = ("student", "teacher")
PROMPT = 200


class Sample:
    """What the reward post-process reads and writes of slime's Sample."""

    class Status(Enum):
        COMPLETED = "completed"
        TRUNCATED = "truncated"

    def __init__(self, index: int, tokens: list[int], logprobs: list[float], loss_mask: list[int]):
        self.index, self.group_index, self.rollout_id = index, index // 8, None
        self.tokens, self.response_length, self.rollout_log_probs = tokens, len(logprobs), logprobs
        self.loss_mask, self.remove_sample, self.reward, self.metadata = loss_mask, False, 0.0, {}
        self.status = Sample.Status.COMPLETED


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


def read_samples(folder: Path, samples: int, length: int) -> list[Sample]:
    """Samples as slime holds them, in Python lists, without what either model said of other tokens."""
    numbers = {name: np.load(folder / f"{name}.npy") for name in ("token_ids", "student_logprob", "loss_mask")}
    rows = [slice(i * length, (i + 1) * length) for i in range(samples)]
    return [
        Sample(
            i,
            [0] * PROMPT + numbers["token_ids"][part].tolist(),
            numbers["student_logprob"][part].tolist(),
            numbers["loss_mask"][part].tolist(),
        )
        for i, part in enumerate(rows)
    ]


def add_signals(batch: list[Sample], folder: Path, k: int) -> int:
    """Both models' answers, in arrays of each sample's own, as they arrive in training. Returns their bytes."""
    teacher, total = np.load(folder / "teacher_logprob.npy", mmap_mode="r"), 0
    for i, sample in enumerate(batch):
        length = sample.response_length

        def rows(name: str, i: int = i, length: int = length) -> TopKRows:
            ids, logprobs = (
                np.fromfile(folder / f"{name}_{what}", kind, count=length * k, offset=i * length * k * 4)
                for what, kind in (("ids", np.int32), ("logprobs", np.float32))
            )
            return TopKRows(ids.reshape(length, k), logprobs.reshape(length, k))

        sample.opd_student = rows("student")
        sample.opd_teacher = TeacherSignal(np.array(teacher[i * length : (i + 1) * length]), rows("teacher"))
        total += length * (k * 16 + 4)
    return total


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


def arguments_of_slime(options: argparse.Namespace, folder: str) -> Namespace:
    """slime's arguments, as far as the post-process reads them."""
    return Namespace(
        use_opd=True,
        opd_type="sglang",
        opd_topk_metrics_k=options.k,
        opd_budget_mask=options.method,
        opd_budget_ratio=0.1,
        opd_token_bank_dir=folder,
        opd_token_bank_format=options.format,
        opd_token_bank_raw_topk=options.raw_topk,
        custom_advantage_function_path=PATHS["custom_advantage_function_path"],
        ta_opd_rollout=0,
    )


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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, *sys.argv, "--make-inputs", name], check=True)
        batch = read_samples(folder, arguments.samples, arguments.length)
        baseline = resident_bytes("VmRSS")
        size = add_signals(batch, folder, arguments.k)
        for what, bank in (("post_process_rewards", ""), ("post_process_rewards, token bank", name)):
            slimes = arguments_of_slime(arguments, bank)
            _, record = measured(what, lambda slimes=slimes: post_process_rewards(slimes, batch))
            print(json.dumps(record), flush=True)
        peak = resident_bytes("VmHWM") - baseline
        path, rows = next(folder.glob("rollout_*")), batch[0].teacher_log_probs
        print(
            json.dumps(
                {
                    "tokens": tokens,
                    "k": arguments.k,
                    "format": arguments.format,
                    "input_bytes": size,
                    "peak_over_baseline_bytes": peak,
                    "peak_over_inputs": round(peak / size, 2),
                    "carrier_bytes_a_token": rows.element_size() * rows.shape[1],
                    "disk_bytes_a_token": round(path.stat().st_size / tokens, 1),
                }
            )
        )


if __name__ == "__main__":
    main()
