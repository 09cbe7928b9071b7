"""Each loss of whole distributions in slime's whole training loop on a CPU; two rollouts of each run."""

import math

import pyarrow.parquet as pq
import pytest

SGLANG = ("--use-opd", "--opd-type", "sglang", "--opd-topk-metrics-k", "16")
LOSSES = {
    "forward_kl": ("--opd-loss-top-k-form", "student_full"),
    "reverse_kl": ("--opd-loss-top-k-form", "renormalised", "--calculate-per-token-loss"),
    "jsd": ("--opd-budget-mask", "teachability", "--opd-budget-ratio", "0.25"),
    "taid": ("--recompute-loss-function",),
    "entropy_aware": ("--opd-normaliser", "selected"),
    "skew_forward_kl": ("--opd-add-sampled-token",),
    "skew_reverse_kl": ("--opd-skew-alpha", "0.3"),
    "taid_entropy_aware": ("--opd-entropy-gate", "sigmoid"),
}
HAS_POLICY_LOSS = ("entropy_aware", "skew_forward_kl", "megatron")


def check_training(run, name):
    assert run.code == 0, run.text[-5000:]
    assert set(run.rollouts) == set(run.steps) == {0, 1}, run.text[-5000:]
    for metrics in run.steps.values():
        for key in ("loss", "grad_norm", "opd/loss", "opd/forward_kl", "opd/teacher_entropy", "opd/student_entropy"):
            assert math.isfinite(metrics[f"train/{key}"]), key
        assert metrics["train/opd/loss"] > 0 and metrics["train/grad_norm"] > 0
        assert ("train/pg_loss" in metrics) == name.startswith(HAS_POLICY_LOSS)
        assert not any("ta_opd" in key for key in metrics)
    assert not any("ta_opd" in key for metrics in run.rollouts.values() for key in metrics)


@pytest.fixture
def disk_stack(stack, checkout):
    if not checkout.has("--update-weight-disk-dir", "slime/utils/arguments.py"):
        pytest.skip(f"{checkout.name} sends whole checkpoints to its engines over NCCL only")
    return stack


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_trains_on_the_teachers_top_k(loss, disk_stack, with_hooks, record):
    run = disk_stack.train(with_hooks, *SGLANG, "--opd-loss", loss, *LOSSES[loss], entry="train_opd.py")
    check_training(run, loss)
    if loss.startswith("taid"):
        # The first loss is only what later ones are compared with.
        assert [run.steps[step]["train/opd/taid_t"] for step in (0, 1)] == [0.4, 0.4]
    record("losses in the whole loop", f"{len(run.steps)} rollouts", loss)


@pytest.mark.parametrize("k", [0, 16])
def test_a_loss_trains_on_a_teacher_in_the_trainer(k, disk_stack, with_hooks, record):
    flags = ("--use-opd", "--opd-type", "megatron", "--opd-teacher-load", str(disk_stack.models / "teacher"))
    flags += ("--rm-type", "random", "--opd-loss", "jsd", "--opd-loss-top-k", str(k))
    run = disk_stack.train(with_hooks, *flags, entry="train_opd.py")
    check_training(run, "megatron")
    record("losses in the whole loop", f"{len(run.steps)} rollouts", f"jsd, Megatron teacher, {k or 'full'}")


def test_a_packed_head_trains_and_the_tables_of_losses_join_the_token_bank(disk_stack, with_hooks, record, tmp_path):
    flags = (*SGLANG, "--opd-loss", "jsd", "--opd-budget-mask", "teachability", "--opd-budget-ratio", "0.25")
    flags += ("--opd-pack-head", "--opd-token-bank-dir", str(tmp_path), "--opd-token-loss-dir", str(tmp_path))
    run = disk_stack.train(with_hooks, *flags, entry="train_opd.py")
    check_training(run, "jsd")
    for rollout, step in run.steps.items():
        bank = pq.read_table(tmp_path / f"rollout_{rollout:06d}.parquet").to_pylist()
        losses = pq.read_table(tmp_path / f"losses_{rollout:06d}_rank000.parquet").to_pylist()
        keys = ("rollout_id", "sample_index", "tok_pos", "token_id")
        kept = [tuple(row[key] for key in keys) for row in bank if row["budget_keep"]]
        assert sorted(kept) == sorted(tuple(row[key] for key in keys) for row in losses) and kept
        mean = sum(row["forward_kl"] for row in losses) / len(losses)
        assert step["train/opd/forward_kl"] == pytest.approx(mean, rel=1e-4)
    record("losses in the whole loop", f"{len(run.steps)} rollouts", "jsd, packed head")
