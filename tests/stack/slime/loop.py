"""slime's whole training loop on a CPU: two SGLang servers, Ray, a Megatron step, the weights pushed back.

SLIME_DIR=... SLIME_PYTHON=... MEGATRON_DIR=... python -m tests.stack.slime.loop [--entry train.py] [flags of the entry]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..sglang.server import SglangServer
from .checkouts import Checkout, checkouts
from .environment import CPU_FOLDER, cpu_environment, interpreter
from .processes import running
from .training_log import Metrics, parse

LIMIT_S = 900
MODEL_FLAGS = shlex.split("""
--num-layers 2 --hidden-size 128 --ffn-hidden-size 256 --num-attention-heads 4 --group-query-attention
--num-query-groups 2 --kv-channels 32 --qk-layernorm --normalization RMSNorm --norm-epsilon 1e-6 --swiglu
--disable-bias-linear --untie-embeddings-and-output-weights --use-rotary-position-embeddings --rotary-base 10000
--vocab-size 512 --make-vocab-size-divisible-by 1 --max-position-embeddings 2048 --seq-length 256
""")
CPU_FLAGS = shlex.split("""
--qkv-format bshd --transformer-impl local --attention-backend unfused --distributed-backend gloo
--use-cpu-initialization --no-gradient-accumulation-fusion --no-masked-softmax-fusion --no-rope-fusion
--no-persist-layer-norm --no-bias-swiglu-fusion --no-bias-dropout-fusion --no-check-for-nan-in-loss-and-grad
--attention-dropout 0 --hidden-dropout 0 --tensor-model-parallel-size 1 --micro-batch-size 1
""")
RUN_FLAGS = shlex.split("""
--actor-num-nodes 1 --actor-num-gpus-per-node 1 --rollout-num-gpus 1 --rollout-num-gpus-per-engine 1
--input-key prompt --label-key label --num-rollout 2 --rollout-batch-size 4 --n-samples-per-prompt 2
--global-batch-size 8 --rollout-max-response-len 16 --optimizer adam --lr 1e-4 --lr-decay-style constant
--advantage-estimator grpo
""")
UPSTREAM_OPD = shlex.split("""
--use-opd --opd-type sglang --opd-kl-coef 1.0 --custom-rm-path slime.rollout.on_policy_distillation.reward_func
--custom-reward-post-process-path slime.rollout.on_policy_distillation.post_process_rewards
""")


@dataclass(frozen=True)
class Run:
    """rollouts and steps: the metrics slime logged, by number. text: everything it printed."""

    code: int
    seconds: float
    text: str
    rollouts: dict[int, Metrics]
    steps: dict[int, Metrics]


@dataclass(frozen=True)
class Stack:
    """Two servers and models on disk: student, teacher, prompts.jsonl.

    Runs share the student's server: each begins by pushing the checkpoint's weights to it.
    """

    models: Path
    teacher: SglangServer
    student: SglangServer

    def train(self, checkout: Checkout, *flags: str, entry: str = "train.py", **variables: str) -> Run:
        """One run of the entry; flags come last, so they override the defaults here. variables: of the environment."""
        with tempfile.TemporaryDirectory(prefix="opd", ignore_cleanup_errors=True) as name:
            folder = Path(name)  # short: Ray puts sockets in it
            command = [interpreter(), "-W", "ignore", str(CPU_FOLDER / "train.py")]
            command += [str(checkout.path / entry), str(folder / "ray"), *self.flags(folder / "weights"), *flags]
            variables = cpu_environment(checkout) | variables
            run = supervise(command, folder / "train.log", env=variables, cwd=checkout.path)
        if run.code:  # it may have left the server in the middle of an update
            self.student.kill()
            self.student.launch()
            self.student.wait_until_ready()
        return run

    def flags(self, weights: Path) -> list[str]:
        weights.mkdir()
        student = str(self.models / "student")
        places = ["--hf-checkpoint", student, "--load", student, "--ref-load", student]
        places += ["--prompt-data", str(self.models / "prompts.jsonl"), "--rm-url", self.teacher.url]
        places += ["--rollout-external-engine-addrs", f"127.0.0.1:{self.student.port}"]
        places += ["--update-weight-transport", "disk", "--update-weight-disk-dir", str(weights)]
        return [*places, *MODEL_FLAGS, *CPU_FLAGS, *RUN_FLAGS]


def supervise(command: list[str], log: Path, **options) -> Run:
    """Runs the training to its end, or for LIMIT_S; what it printed is part of the result either way."""
    started = time.monotonic()
    with running(command, log, **options) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LIMIT_S)
        code = process.poll()
    text = log.read_text(encoding="utf-8", errors="replace")
    found = parse(text)
    seconds = time.monotonic() - started
    return Run(-1 if code is None else code, seconds, text, found.get("rollout", {}), found.get("step", {}))


def make_server(model: Path, log: Path) -> SglangServer:
    return SglangServer(interpreter(), model, log, ("--disable-radix-cache",))


@contextlib.contextmanager
def stack() -> Iterator[Stack]:
    """Tiny models and both servers, until the block ends."""
    # Seconds of imports that a test-suite which skips these tests can do without.
    from ..sglang.tiny_models import write_tiny_models

    with tempfile.TemporaryDirectory(prefix="opd") as name:
        folder = Path(name)
        models = write_tiny_models(folder)
        rows = [{"prompt": f"{a}+{b}=", "label": str(a + b)} for a in range(32) for b in range(32)]
        (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        servers = {which: make_server(model, folder / f"{which}.log") for which, model in models.items()}
        try:
            for server in servers.values():
                server.launch()
            for server in servers.values():
                server.wait_until_ready()
            yield Stack(folder, **servers)
        finally:
            for server in servers.values():
                server.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entry", default="train.py", help="the checkout's train entry (default: %(default)s)")
    parser.add_argument("--log", type=Path, help="also write everything the run printed to this file")
    options, flags = parser.parse_known_args()
    code = 0
    with stack() as servers:
        for checkout in checkouts():
            run = servers.train(checkout, *(flags or UPSTREAM_OPD), entry=options.entry)
            if options.log:
                options.log.write_text(run.text, encoding="utf-8")
            print(checkout.name, f"code {run.code}, {run.seconds:.0f} s")
            print(json.dumps({"rollouts": run.rollouts, "steps": run.steps}, indent=1))
            if run.code:
                print("\n".join(run.text.splitlines()[-60:]), file=sys.stderr)
            code = code or run.code
    return code


if __name__ == "__main__":
    sys.exit(main())
