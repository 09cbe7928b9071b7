"""Variables with which the launchers train the tiny student in slime on a CPU: real Ray, real servers, no GPU."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..ports import free_port
from ..sglang.server import FLAGS, SERVE
from .checkouts import Checkout
from .environment import cpu_environment, interpreter
from .loop import CPU_FLAGS, MODEL_FLAGS, Stack

REPO = Path(__file__).parents[3]
PORTS = ("TEACHER_PORT", "TEACHER_NCCL_PORT", "RAY_PORT", "RAY_DASHBOARD_PORT", "RAY_OBJECT_MANAGER_PORT")
PORTS += ("RAY_NODE_MANAGER_PORT", "RAY_DASHBOARD_AGENT_LISTEN_PORT", "RAY_DASHBOARD_AGENT_GRPC_PORT")
PORTS += ("RAY_METRICS_EXPORT_PORT",)


def suite_settings(stack: Stack, checkout: Checkout, megatron_dir: Path, work: Path, ray: Path) -> dict[str, str]:
    """Three GPUs that are counted and never used; the sampling engine is the stack's own. work: a folder that is
    empty. ray: Ray's, a short path."""
    script, weights = work / "tiny.sh", work / "weights"
    script.write_text(f"MODEL_ARGS=({shlex.join(MODEL_FLAGS)})\n", encoding="utf-8")
    weights.mkdir()
    student = str(stack.models / "student")
    engine = ["--rollout-external-engine-addrs", f"127.0.0.1:{stack.student.port}"]
    engine += ["--update-weight-transport", "disk", "--update-weight-disk-dir", str(weights)]
    variables = cpu_environment(checkout)
    # Ray's workers have it from their head; run_plan would take it for a misspelt variable of its own.
    shim = ["env", f"OPD_CPU_SHIM={variables.pop('OPD_CPU_SHIM')}"]
    return {
        **variables,
        **{name: str(free_port()) for name in PORTS},
        "PYTHON": sys.executable,
        "SLIME_DIR": str(checkout.path),
        "MEGATRON_LM_DIR": str(megatron_dir),
        "OUTPUT_ROOT": str(work),
        "TAG": "suite",
        "TEACHER_MODEL": str(stack.models / "teacher"),
        "STUDENT_HF": student,
        "STUDENT_TORCH_DIST": student,
        "STUDENT_MODEL_SCRIPT": str(script),
        "PROMPT_DATA": str(stack.models / "prompts.jsonl"),
        "LABEL_KEY": "label",
        "APPLY_CHAT_TEMPLATE": "0",
        "TEACHER_GPU": "2",
        "RAY_GPUS": "0,1",
        "ACTOR_NUM_GPUS_PER_NODE": "1",
        "TENSOR_PARALLEL": "1",
        "NUM_ROLLOUT": "2",
        "SAVE_INTERVAL": "1",
        "ROLLOUT_MAX_RESPONSE_LEN": "16",
        "MAX_TOKENS_PER_GPU": "0",
        "RECOMPUTE": "none",
        "LR": "1e-4",
        "TEACHER_CUDA_GRAPH_MAX_BS": "0",
        "TEACHER_COMMAND": shlex.join(["env", "-u", "PYTHONPATH", interpreter(), "-W", "ignore", str(SERVE)]),
        "TEACHER_EXTRA_ARGS": shlex.join([*FLAGS, "--disable-radix-cache"]),
        "TRAIN_COMMAND": shlex.join([*shim, interpreter(), "-W", "ignore", "train_opd.py"]),
        "EXTRA_ARGS": shlex.join([*CPU_FLAGS, *engine]),
        "RAY_COMMAND": shlex.join([*shim, str(Path(interpreter()).with_name("ray"))]),
        "RAY_TEMP_DIR": str(ray),
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 8}',  # slime's actors want more than a small machine has
        "RAY_raylet_start_wait_time_s": "240",
        "RAY_agent_register_timeout_ms": "240000",
    }


@contextlib.contextmanager
def ray_folder() -> Iterator[Path]:
    """Short, since Ray puts sockets in it; what a Ray that is ending still writes there is no matter."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


def running_with(*places: Path) -> list[str]:
    """The command lines of all processes on this machine that name one of the places."""
    found = map(_command, Path("/proc").glob("[0-9]*"))
    return [command for command in found if any(str(place) in command for place in places)]


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
