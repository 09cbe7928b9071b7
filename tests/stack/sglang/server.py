"""Real SGLang servers for tests: one process tree each, started, killed and started again on its own port."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from ..ports import free_port

SERVE = Path(__file__).with_name("serve.py")
# Two layers of random weights need no more. Short chunks make a prompt of some hundred tokens a chunked prefill.
FLAGS = (
    *("--device", "cpu", "--dtype", "bfloat16", "--host", "127.0.0.1"),
    *("--attention-backend", "torch_native", "--sampling-backend", "pytorch", "--grammar-backend", "none"),
    *("--mem-fraction-static", "0.05", "--max-total-tokens", "16384", "--max-running-requests", "16"),
    *("--chunked-prefill-size", "256"),
    *("--disable-overlap-schedule", "--skip-server-warmup", "--sleep-on-idle"),
)
START_SECONDS = 300.0


class SglangServer:
    """`python`: the interpreter of SGLang's virtual environment. `log` is appended to over restarts."""

    def __init__(self, python: str, model: Path, log: Path, flags: tuple[str, ...] = ()) -> None:
        self.python, self.model, self.log, self.flags = python, model, log, flags
        self.port = free_port()
        self.version = sglang_version(python)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/generate"

    def launch(self) -> None:
        """Starts the process tree in a group of its own and returns at once."""
        assert self._process is None, "already started"
        command = [self.python, "-W", "ignore", str(SERVE), "--model-path", str(self.model)]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port), "--nccl-port", str(free_port()), *FLAGS, *self.flags],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
            )

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Raises RuntimeError, with the end of the log, if the server ends or stays silent."""
        assert self._process is not None, "not started"
        deadline = time.monotonic() + seconds
        while not self.is_healthy():
            code = self._process.poll()
            if code is not None:
                raise RuntimeError(f"SGLang {self.version} ended with code {code} while starting:\n{self.log_end()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"SGLang {self.version} is not up after {seconds:g} s:\n{self.log_end()}")
            time.sleep(0.3)

    def is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.root}/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def kill(self) -> None:
        """Ends the process tree as the kernel's out-of-memory killer does: no goodbye, open connections break."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def log_end(self, lines: int = 40, width: int = 300) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(line[:width] for line in text[-lines:])


def sglang_version(python: str) -> str:
    """Raises RuntimeError where that interpreter has no SGLang."""
    code = "from importlib.metadata import version; print(version('sglang'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{python} has no SGLang: {done.stderr.strip()}")
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    """This process's, without proxies and PYTHONPATH, which belong to another virtual environment."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k != "PYTHONPATH"}
    return kept | {"SGLANG_USE_CPU_ENGINE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
