"""lm_eval as a program: whether it is there, and the command that runs one benchmark with it."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from .benchmarks import Benchmark

INSTALL = "'lm-eval[hf,math]>=0.4.9,<0.5'"
OLDEST, BELOW = (0, 4, 9), (0, 5)
BACKENDS = ("hf", "vllm", "sglang")
ASK_VERSION = "import importlib.metadata as m; import lm_eval; print(m.version('lm_eval'))"


def version(python: str) -> str:
    """Of the lm_eval that this Python imports. Raises ValueError, which says how to install it."""
    try:
        done = subprocess.run([python, "-c", ASK_VERSION], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError(f"--python {python} cannot be run: {error.strerror}") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"lm_eval cannot be imported ({said}); install it: {python} -m pip install {INSTALL}")
    found = done.stdout.split()[-1]
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:3])
    if numbers < OLDEST or numbers >= BELOW:
        raise ValueError(f"lm_eval {found} is not supported; install another: {python} -m pip install {INSTALL}")
    return found


@dataclass(frozen=True)
class Harness:
    """How every benchmark of a call is run. model_arguments: more of the backend's, such as tensor_parallel_size."""

    python: str
    model: Path
    backend: str
    device: str | None
    batch_size: str
    seed: int
    model_arguments: dict = field(default_factory=dict)
    chat_template: bool = False
    trust_remote_code: bool = False
    log_samples: bool = False
    include_path: Path | None = None

    def __post_init__(self):
        """Raises ValueError for what the backend would refuse or ignore."""
        if self.device is not None and self.backend != "hf":
            raise ValueError(f"--device is for --backend hf; {self.backend} takes the GPUs of CUDA_VISIBLE_DEVICES")
        if not re.fullmatch(r"auto(:[1-9]\d*)?|[1-9]\d*", self.batch_size):
            raise ValueError(f"--batch-size {self.batch_size}: must be auto, auto:N or a number of at least 1")
        if self.seed < 0:
            raise ValueError(f"--seed {self.seed}: must be at least 0")

    def command(self, benchmark: Benchmark, output: Path) -> list[str]:
        """One benchmark; its results go to a file somewhere under output. As JSON the path may hold any character."""
        model_arguments = {"pretrained": str(self.model), "dtype": "auto"} | self.model_arguments
        if self.trust_remote_code:
            model_arguments["trust_remote_code"] = True
        words = [self.python, "-m", "lm_eval", "--model", self.backend]
        words += ["--model_args", json.dumps(model_arguments), "--tasks", benchmark.harness_task]
        words += ["--batch_size", self.batch_size, "--seed", str(self.seed), "--output_path", str(output)]
        for flag, value in (
            ("--device", self.device),
            ("--limit", benchmark.limit),
            ("--include_path", self.include_path),
        ):
            words += [] if value is None else [flag, str(value)]
        words += ["--apply_chat_template"] if self.chat_template else []
        return words + (["--log_samples"] if self.log_samples else [])
