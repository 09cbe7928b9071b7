"""Tokens per second and memory of scoring a context bank, beside scoring one sample at a time with whole logits.

    python -m local_engine --out out/models --methods "pure_opd:1.0" --steps 2
    python benchmarks/diagnostics.py --models out/models                       # 300 contexts of 192 tokens, K = 16
    python benchmarks/diagnostics.py --models out/models --contexts 75

Each row is a process of its own, measured after its imports: loading models, scoring, writing the file. "first" scores
student and teacher, "second" another checkpoint against the cached teacher. "one at a time" computes the same columns
of one context after another from [T, V] float32 logits of both models, vectorised over the context; "token by token"
does so with a Python loop over the tokens for what depends on K. Prints one JSON record a row: CPU seconds (user and
system) and wall seconds, tokens per second of either, and the peak of the resident memory above the interpreter's.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd  # noqa: F401  (as modeling_qwen3 below: otherwise imported while the time is taken)
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from fixed_context.context_bank import Sample, build_bank, write_bank
from fixed_context.contexts import Context, select_contexts
from fixed_context.plan import make_plan
from fixed_context.schema import read_context_bank
from fixed_context.scoring import evaluate
from fixed_context.scoring_rows import list_rows
from fixed_context.settings import EvalSettings
from local_engine.models import encode_prompts
from local_engine.sampling import sample_responses
from local_engine.word_problems import generate_problems
from rich.console import Console
from ta_opd import Supports, TopK
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.qwen3 import modeling_qwen3  # noqa: F401

K = 16
NO_END = -1


def make_bank(models: Path, contexts: int, tokens: int, path: Path) -> None:
    """Responses of the student to as many prompts, each exactly `tokens` long."""
    tokenizer = AutoTokenizer.from_pretrained(models / "student")
    student = AutoModelForCausalLM.from_pretrained(models / "student").eval()
    prompts = encode_prompts(tokenizer, [p.prompt for p in generate_problems(contexts, seed=1)], 160)
    draws = torch.Generator().manual_seed(1)
    responses = sample_responses(student, prompts, tokens, generator=draws, eos_id=NO_END, pad_id=0)
    pairs = zip(prompts, responses, strict=True)
    samples = [Sample(p, r, "benchmark", sample_index=i) for i, (p, r) in enumerate(pairs)]
    write_bank(path, *build_bank(samples, None))


def score_bank(models: Path, student: str, bank: Path, folder: Path) -> None:
    teacher = str(models / "teacher")
    output = folder / f"{student}.parquet"
    evaluate(make_plan(EvalSettings(bank, str(models / student), teacher, output, topk=K)), Console(quiet=True))


def one_at_a_time(models: Path, bank: Path, folder: Path, by_token: bool) -> None:
    both = [AutoModelForCausalLM.from_pretrained(models / name).eval() for name in ("student", "teacher")]
    contexts, _ = select_contexts(read_context_bank(bank), None, None)
    rows = [whole_logits(*both, context, by_token) for context in contexts]
    columns = {name: torch.cat([row[name] for row in rows]).numpy() for name in rows[0]}
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), folder / "one.parquet")


@torch.no_grad()
def whole_logits(student, teacher, context: Context, by_token: bool) -> dict[str, Tensor]:
    ids = torch.from_numpy(np.concatenate([context.prompt, context.response])).long()[None]
    start, y = len(context.prompt), torch.from_numpy(context.response).long()
    log_s, log_t = (model(ids).logits[0].float().log_softmax(-1)[start - 1 : -1] for model in (student, teacher))
    p, q = log_s.exp(), log_t.exp()
    middle = ((p + q) / 2).log()
    own_s, own_t = log_s.gather(1, y[:, None]), log_t.gather(1, y[:, None])
    columns = {
        "Hs": -(p * log_s).sum(-1),
        "Ht": -(q * log_t).sum(-1),
        "KLf": (q * (log_t - log_s)).sum(-1),
        "KLr": (p * (log_s - log_t)).sum(-1),
        "JSD": ((q * (log_t - middle)).sum(-1) + (p * (log_s - middle)).sum(-1)) / 2,
        "student_logp_sampled": own_s[:, 0],
        "teacher_logp_sampled": own_t[:, 0],
        "target_student_rank": (log_s > own_s).sum(-1),
        "target_teacher_rank": (log_t > own_t).sum(-1),
    }
    every = [slice(t, t + 1) for t in range(len(y))] if by_token else [slice(None)]
    parts = [lists(log_s[rows], log_t[rows], y[rows]) for rows in every]
    return columns | {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def lists(log_s: Tensor, log_t: Tensor, y: Tensor) -> dict[str, Tensor]:
    s, t = TopK.from_logprobs(log_s, K), TopK.from_logprobs(log_t, K)
    supports = Supports(s, t, log_t.gather(1, s.ids.long()), log_s.gather(1, t.ids.long()))
    return list_rows(supports, y, (K,))


def measured(work: Callable[[], None], tokens: int) -> dict[str, float]:
    before, started, cpu = peak(), time.perf_counter(), time.process_time()
    work()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return {
        "cpu_seconds": round(cpu_seconds, 2),
        "wall_seconds": round(seconds, 2),
        "tokens_per_cpu_second": round(tokens / cpu_seconds),
        "tokens_per_second": round(tokens / seconds),
        "peak_mib": round((peak() - before) / 2**10),
    }


def peak() -> int:
    """KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def rows(models: Path) -> Iterator[tuple[str, str]]:
    trained = sorted(path.name for path in models.iterdir() if path.name not in ("student", "teacher"))[0]
    yield from (("first", "student"), ("second", trained), ("one at a time", ""), ("token by token", ""))


def run_row(name: str, models: Path, student: str, bank: Path, folder: Path) -> None:
    if name in ("first", "second"):
        score_bank(models, student, bank, folder)
    else:
        one_at_a_time(models, bank, folder, by_token=name == "token by token")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="output directory of the embedded engine")
    parser.add_argument("--contexts", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=192)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--row", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    count, models = arguments.contexts * arguments.tokens, arguments.models / "models"
    if arguments.row:
        name, student, bank, folder = arguments.row
        result = measured(lambda: run_row(name, models, student, Path(bank), Path(folder)), count)
        print(json.dumps({"row": name, "contexts": arguments.contexts, "threads": arguments.threads} | result))
        return
    with tempfile.TemporaryDirectory() as folder:
        bank = Path(folder) / "bank.parquet"
        make_bank(models, arguments.contexts, arguments.tokens, bank)
        for name, student in rows(models):
            row = ["--row", name, student, str(bank), folder]
            subprocess.run([sys.executable, __file__, *sys.argv[1:], *row], check=True)


if __name__ == "__main__":
    main()
