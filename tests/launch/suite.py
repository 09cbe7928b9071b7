"""A place with everything a suite needs, stand-ins for what needs GPUs, and the launchers run in it."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
LAUNCH = REPO / "launch"
STAND_INS = Path(__file__).with_name("stand_ins")
PROMPTS = [{"prompt": f"{a} + {b}?", "label": str(a + b)} for a in range(4) for b in range(4)]
MODEL_SCRIPT = """MODEL_ARGS=(
   --swiglu
   --num-layers 28
   --hidden-size 2048
   --ffn-hidden-size 6144
   --num-attention-heads 16
   --group-query-attention
   --num-query-groups 8
   --kv-channels 128
   --vocab-size 151936
   --normalization "RMSNorm"
   --rotary-base "${MODEL_ARGS_ROTARY_BASE:-1000000}"
)
"""


def stand_in(name):
    return shlex.join([sys.executable, "-I", "-S", str(STAND_INS / f"{name}.py")])


class Suite:
    """Paths hold spaces and quotes. `python`: what PYTHON is set to."""

    def __init__(self, place, slime, bank, python, ports):
        self.place, self.orders, self.bank = place, place / "orders", bank
        self.root = place / "out put"
        self.directory = self.root / "nightly"
        for name in ("orders", "teacher", "student", "student_torch_dist"):
            (place / name).mkdir(parents=True)
        (place / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in PROMPTS))
        self.order("bank", bank)
        keep = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "LANG")}
        self.environment = (
            keep
            | {
                "STAND_IN_DIR": str(self.orders),
                "OMP_NUM_THREADS": "1",
                "SLIME_DIR": str(slime),
                "PYTHON": str(python),
                "RAY_COMMAND": stand_in("ray"),
                "TEACHER_COMMAND": stand_in("teacher"),
                "TRAIN_COMMAND": stand_in("train"),
                "TEACHER_MODEL": str(place / "teacher"),
                "STUDENT_HF": str(place / "student"),
                "STUDENT_TORCH_DIST": str(place / "student_torch_dist"),
                "STUDENT_MODEL_SCRIPT": "qwen3-1.7B",
                "PROMPT_DATA": str(place / "prompts.jsonl"),
                "OUTPUT_ROOT": str(self.root),
                "TAG": "nightly",
                "METHOD_LIST": "teachability:0.10:1 random:0.10:2",
                "NUM_ROLLOUT": "6",
                "SAVE_INTERVAL": "2",
                "TEACHER_WAIT": "20",
                "LAUNCH_POLL_SECONDS": "0.05",
                "LAUNCH_STOP_SECONDS": "5",
            }
            | ports
        )

    def order(self, name, text):
        """Tell the stand-ins something; they look when they start."""
        (self.orders / name).write_text(str(text))

    def launch(self, *words, command="run_method_suite.sh", **settings):
        """Start a command, in a session of its own; None takes a setting away."""
        environment = {k: v for k, v in (self.environment | settings).items() if v is not None}
        return subprocess.Popen(
            [str(LAUNCH / command), *words],
            env=environment,
            cwd=self.place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell cannot trap what it was started ignoring, as from a background job.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *words, timeout=400, **settings):
        """Run a command to its end: (exit code, what it printed)."""
        process = self.launch(*words, **settings)
        try:
            printed, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            raise AssertionError(f"no end within {timeout} s: {process.communicate()[0]}") from None
        return process.returncode, printed

    def journal(self, what=None):
        """What the stand-ins noted, in order."""
        path = self.orders / "journal"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if what in (None, line["what"])]

    def rollouts(self, run):
        return [line["rollout"] for line in self.journal("rollout") if line["run"] == run]

    def training(self, run):
        """What a run's training noted, in order: a "rollout" as it begins, "saving" and "saved" around a checkpoint."""
        return [line for line in self.journal() if line.get("run") == run]

    def states(self, run):
        """[(stage, status)] of a run, in order."""
        path = self.directory / "runs" / run / "state.tsv"
        return [tuple(line.split("\t")[:2]) for line in path.read_text().splitlines()] if path.exists() else []

    def alive(self):
        """Processes of this place that live: their environment names it."""
        mark, found = f"STAND_IN_DIR={self.orders}".encode(), {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (path / "environ").read_bytes().split(b"\0"):
                    found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def wait_for(self, condition, process, seconds=300):
        """Until the condition holds, while the process lives."""
        deadline = time.monotonic() + seconds
        while not condition():
            ended, late = process.poll() is not None, time.monotonic() > deadline
            if ended or late:
                process.kill()
                raise AssertionError(f"never came: {process.communicate()[0]}")
            time.sleep(0.01)

    def kill_all(self):
        for process in self.alive():
            os.kill(process, signal.SIGKILL)
