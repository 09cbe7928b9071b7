"""Time and memory of the output layer and a top-k loss when only selected rows go through them (--opd-pack-head).

    python benchmarks/packed_head.py                     # 512 rows, hidden 512, V = 151,936, float32, on the CPU
    python benchmarks/packed_head.py --device cuda --tokens 8192 --hidden 4096 --dtype bfloat16 --repeats 20 --json

From final hidden states to a JSD with the teacher's top-64 and a tail, and back to the hidden states and the head.
whole: every row through the head, the loss reads the selected ones; packed: the selected rows alone, as
ta_opd.row_packing picks them. Both as in slime: logits made in the model's dtype and turned into float32, the head's
gradient added in place to a float32 buffer. Both ways' gradients are compared first; where they differ nothing is timed
and the exit status is 1. Peak: greatest growth over the inputs and that buffer, in MiB, on a CPU in a process each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from losses_providers.measure import HEAP_GIVES_BACK, cuda_growth, interleaved, resident_growth
from ta_opd.row_packing import RowPacking
from ta_opd.row_plan import Divergence, RowPlan
from ta_opd.support import TopK
from ta_opd.topk_losses import topk_losses
from torch import Tensor

RATIOS = (0.05, 0.1, 0.25, 1.0)
WAYS = ("whole", "packed")
K = 64
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}
"""Of gradients, relative to their greatest entry: products of other shapes add up in another order."""


class Head(torch.autograd.Function):
    """Hidden states [n, H] and weight [V, H] to logits [n, V]; the weight's gradient is added to main_grad."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, main_grad: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight, main_grad)
        return hidden @ weight.T

    @staticmethod
    def backward(ctx, gradient: Tensor):
        hidden, weight, main_grad = ctx.saved_tensors
        if main_grad.dtype == gradient.dtype:
            main_grad.addmm_(gradient.T, hidden)
        else:
            main_grad += gradient.T @ hidden
        return gradient @ weight, None, None


class Problem:
    """Random hidden states, head and lists; rows are selected at random."""

    def __init__(self, options: argparse.Namespace, ratio: float) -> None:
        generator = torch.Generator().manual_seed(options.seed)
        dtype, device = getattr(torch, options.dtype), options.device
        scale = options.hidden**-0.5

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(device, dtype)

        self.hidden = normal(options.tokens, options.hidden).requires_grad_()
        self.weight = normal(options.vocab, options.hidden).mul_(3 * scale)
        self.main_grad = torch.zeros(options.vocab, options.hidden, device=device)
        chosen = torch.rand(options.tokens, generator=generator).argsort()[: round(ratio * options.tokens)]
        self.keep = torch.zeros(options.tokens, dtype=torch.bool)
        self.keep[chosen] = True
        ids = torch.randint(options.vocab, (options.tokens, K), generator=generator, dtype=torch.int32)
        logprobs = torch.randn(options.tokens, K, generator=generator).log_softmax(1) - 0.1
        self.lists = TopK(ids.to(device), logprobs.to(device))

    def step(self, way: str) -> Callable[[], None]:
        """A forward and backward."""
        plan, keep = RowPlan(Divergence("jsd", 0.5)), self.keep.to(self.hidden.device)

        def run() -> None:
            self.hidden.grad = None
            hidden, lists, mask = self.hidden, self.lists, keep
            if way == "packed":
                index = RowPacking.of(self.keep).of_share(0).to(hidden.device)
                hidden, lists, mask = hidden.index_select(0, index), lists.rows(index), keep[index]
            logits = Head.apply(hidden, self.weight, self.main_grad).float()
            topk_losses(logits, lists, plan, keep=mask).loss[mask].sum().backward()

        return run

    def gradients(self, way: str) -> tuple[Tensor, Tensor]:
        """Of the hidden states and of the head."""
        self.main_grad.zero_()
        self.step(way)()
        return self.hidden.grad.clone(), self.main_grad.clone()


def difference(problem: Problem) -> float:
    """Largest one of both ways' gradients over the greatest entry."""
    pairs = zip(problem.gradients("whole"), problem.gradients("packed"), strict=True)
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def growth(options: argparse.Namespace, ratio: float, way: str) -> int | None:
    """Bytes of one step, measured here on CUDA, alone on a CPU."""
    if options.device == "cpu" and not options.memory_alone:
        command = [sys.executable, "-W", "ignore", __file__, "--memory-alone", "--ratios", str(ratio), "--ways", way]
        for name in ("tokens", "hidden", "vocab", "dtype", "seed"):
            command += [f"--{name}", str(getattr(options, name))]
        done = subprocess.run(command, env=os.environ | HEAP_GIVES_BACK, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)
    run = Problem(options, ratio).step(way)
    run()
    return (cuda_growth if options.device == "cuda" else resident_growth)(run)


def records(options: argparse.Namespace, ratio: float) -> list[dict[str, Any]]:
    """One of each way; without times where the gradients differ."""
    problem = Problem(options, ratio)
    apart = difference(problem)
    wrong = not apart < TOLERANCE[options.dtype]
    times = None if wrong else interleaved([problem.step(way) for way in options.ways], options.repeats, options.device)
    found = []
    for place, way in enumerate(options.ways):
        record = {"ratio": ratio, "way": way, "rows": int(problem.keep.sum()), "difference": apart}
        if times:
            record |= {"seconds": times[place].wall[1], "user_seconds": times[place].user[1]}
        found.append(record)
    del problem
    for record in [] if wrong else found:
        peak = growth(options, ratio, record["way"])
        record["peak_mib"] = None if peak is None else peak / 2**20
    return found


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tokens", type=int, default=512, help="rows of hidden states")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--dtype", choices=tuple(TOLERANCE), default="float32", help="of hidden states and head")
    parser.add_argument("--ratios", type=float, nargs="+", default=list(RATIOS), help="shares of selected rows")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON record a line instead of a table")
    parser.add_argument("--memory-alone", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    torch.set_num_threads(1)
    if options.memory_alone:
        print(json.dumps(growth(options, options.ratios[0], options.ways[0])))
        return 0
    if not options.json:
        print(f"{'ratio':>5} {'way':<7} {'rows':>6} {'ms':>9} {'user ms':>9} {'peak MiB':>9} {'difference':>10}")
    wrong = False
    for ratio in options.ratios:
        for record in records(options, ratio):
            print(json.dumps(record) if options.json else row(record), flush=True)
            wrong |= "seconds" not in record
    return int(wrong)


def row(record: dict[str, Any]) -> str:
    def number(name: str, scale: float = 1) -> str:
        value = record.get(name)
        return f"{'-' if value is None else f'{scale * value:.0f}':>9}"

    cells = [number("seconds", 1000), number("user_seconds", 1000), number("peak_mib")]
    return (
        f"{record['ratio']:>5} {record['way']:<7} {record['rows']:>6} {' '.join(cells)} {record['difference']:>10.1e}"
    )


if __name__ == "__main__":
    sys.exit(main())
