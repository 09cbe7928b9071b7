"""launch/run_opd.sh over everything real: Ray, an SGLang teacher, slime's training through train_opd.py.

Not resumed here: Megatron's distributed optimizer does not load a checkpoint of torch's Adam, which stands in on a CPU.
"""

import math
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from ..sglang.server import FLAGS, SERVE, free_port
from .environment import cpu_environment, interpreter
from .loop import CPU_FLAGS, MODEL_FLAGS

REPO = Path(__file__).parents[3]
RUN = "teachability-0.25-seed42"


def settings(stack, checkout, megatron_dir, work):
    """Three GPUs that are counted and never used; the sampling engine is the stack's own."""
    script = work / "tiny.sh"
    script.write_text(f"MODEL_ARGS=({shlex.join(MODEL_FLAGS)})\n", encoding="utf-8")
    student = str(stack.models / "student")
    engine = ["--rollout-external-engine-addrs", f"127.0.0.1:{stack.student.port}"]
    weights = ["--update-weight-transport", "disk", "--update-weight-disk-dir", str(work / "weights")]
    (work / "weights").mkdir()
    ports = ("TEACHER_PORT", "TEACHER_NCCL_PORT", "RAY_PORT", "RAY_DASHBOARD_PORT", "RAY_OBJECT_MANAGER_PORT")
    ports += ("RAY_NODE_MANAGER_PORT", "RAY_DASHBOARD_AGENT_LISTEN_PORT", "RAY_DASHBOARD_AGENT_GRPC_PORT")
    variables = cpu_environment(checkout)
    # Ray's workers have it from their head; run_plan would take it for a misspelt variable of its own.
    shim = ["env", f"OPD_CPU_SHIM={variables.pop('OPD_CPU_SHIM')}"]
    return {
        **variables,
        **{name: str(free_port()) for name in (*ports, "RAY_METRICS_EXPORT_PORT")},
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
        "EXTRA_ARGS": shlex.join([*CPU_FLAGS, *engine, *weights]),
        "RAY_COMMAND": shlex.join([*shim, str(Path(interpreter()).with_name("ray"))]),
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 8}',  # slime's actors want more than a small machine has
        "RAY_raylet_start_wait_time_s": "240",
        "RAY_agent_register_timeout_ms": "240000",
    }


def run_opd(variables):
    command = [REPO / "launch" / "run_opd.sh", "teachability:0.25:0"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=900)
    return done.returncode, done.stdout + done.stderr


def test_a_suite_trains_in_slime_and_leaves_a_bank_a_table_and_no_process(
    stack, with_hooks, megatron_dir, tmp_path, record
):
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as place:
        variables = settings(stack, with_hooks, megatron_dir, tmp_path) | {"RAY_TEMP_DIR": place}
        code, printed = run_opd(variables)
        assert code == 0, printed
        run = tmp_path / "suite" / "runs" / RUN
        assert rollouts(run) == {0: True, 1: True}
        assert f"| {RUN} | finished | 2 / 2 |" in (tmp_path / "suite" / "summary.md").read_text()
        assert (run / "checkpoints" / "latest_checkpointed_iteration.txt").read_text().strip() == "1"
        assert not [p for p in Path("/proc").glob("[0-9]*") if place in _command(p)]
    record("launchers", "run_opd.sh: 2 rollouts, merged and summarised")


def rollouts(run):
    """Those in the merged token bank, and whether exactly a quarter of their valid tokens was kept."""
    bank = pq.read_table(run / "token_bank.parquet", columns=["rollout_id", "loss_mask_original", "budget_keep"])
    sums = bank.group_by("rollout_id").aggregate([("loss_mask_original", "sum"), ("budget_keep", "sum")]).to_pylist()
    return {
        row["rollout_id"]: row["budget_keep_sum"] == math.ceil(row["loss_mask_original_sum"] / 4)
        for row in sorted(sums, key=lambda row: row["rollout_id"])
    }


def _command(process):
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
