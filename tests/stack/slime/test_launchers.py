"""launch/run_opd.sh over everything real: Ray, an SGLang teacher, slime's training through train_opd.py.

Not resumed here: Megatron's distributed optimizer does not load a checkpoint of torch's Adam, which stands in on a CPU.
"""

import math
import subprocess

import pyarrow.parquet as pq

from .launcher_settings import REPO, ray_folder, running_with, suite_settings

RUN = "teachability-0.25-seed42"


def run_opd(variables):
    command = [REPO / "launch" / "run_opd.sh", "teachability:0.25:0"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=900)
    return done.returncode, done.stdout + done.stderr


def test_a_suite_trains_in_slime_and_leaves_a_bank_a_table_and_no_process(
    stack, suite_checkout, megatron_dir, tmp_path, record
):
    with ray_folder() as ray:
        code, printed = run_opd(suite_settings(stack, suite_checkout, megatron_dir, tmp_path, ray))
        assert code == 0, printed
        run = tmp_path / "suite" / "runs" / RUN
        assert rollouts(run) == {0: True, 1: True}
        assert f"| {RUN} | finished | 2 / 2 |" in (tmp_path / "suite" / "summary.md").read_text()
        assert (run / "checkpoints" / "latest_checkpointed_iteration.txt").read_text().strip() == "1"
        assert running_with(ray, tmp_path) == []
    record("launchers", "run_opd.sh: 2 rollouts, merged and summarised")


def rollouts(run):
    """Those in the merged token bank, and whether exactly a quarter of their valid tokens was kept."""
    bank = pq.read_table(run / "token_bank.parquet", columns=["rollout_id", "loss_mask_original", "budget_keep"])
    sums = bank.group_by("rollout_id").aggregate([("loss_mask_original", "sum"), ("budget_keep", "sum")]).to_pylist()
    return {
        row["rollout_id"]: row["budget_keep_sum"] == math.ceil(row["loss_mask_original_sum"] / 4)
        for row in sorted(sums, key=lambda row: row["rollout_id"])
    }
