"""slime's whole training loop on a CPU: SGLang, Ray, Megatron, the weights pushed back; two rollouts of each run."""

import math

import pytest

from . import loop

RATIO = 0.25
SELECTORS = ("full", "teachability", "entropy", "random", "tip", "divergence")
OPD = ("--use-opd", "--opd-type", "sglang", "--opd-kl-coef", "1.0")
SCORES = [f"{name}{which}" for name in ("entropy", "disagreement", "compatibility") for which in ("", "_selected")]
# bf16 in the server, float32 in the trainer: above this the two hold different weights.
SAME_WEIGHTS = 0.02


def check_training(run):
    """Two rollouts, two steps, finite numbers, and a student server that holds the trainer's weights in both."""
    assert run.code == 0, run.text[-5000:]
    assert set(run.rollouts) == set(run.steps) == {0, 1}, run.text[-5000:]
    for metrics in run.steps.values():
        assert math.isfinite(metrics["train/loss"]) and math.isfinite(metrics["train/grad_norm"])
        assert metrics["train/train_rollout_logprob_abs_diff"] < SAME_WEIGHTS


@pytest.fixture
def upstreams_stack(stack, checkout):
    """`stack`, for a checkout whose training can run on it."""
    if not checkout.has("--update-weight-disk-dir", "slime/utils/arguments.py"):
        pytest.skip(f"{checkout.name} sends whole checkpoints to its engines over NCCL only")
    return stack


def test_upstreams_own_distillation_runs(upstreams_stack, pristine, record):
    run = upstreams_stack.train(pristine, *loop.UPSTREAM_OPD)
    check_training(run)
    assert all(metrics["rollout/opd_reverse_kl"] > 0 for metrics in run.rollouts.values())
    assert not any("train/opd_reverse_kl" in metrics for metrics in run.steps.values())
    record("whole loop", f"{len(run.steps)} rollouts", "upstream's OPD")


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_selector_trains_and_logs_its_metrics(selector, upstreams_stack, with_hooks, record, tmp_path):
    budget = () if selector == "full" else ("--opd-budget-ratio", str(RATIO))
    ours = ("--opd-topk-metrics-k", "16", "--opd-budget-mask", selector, "--opd-token-bank-dir", str(tmp_path))
    run = upstreams_stack.train(with_hooks, *OPD, *ours, *budget, entry="train_opd.py")
    check_training(run)
    for metrics in run.rollouts.values():
        metrics = {name.removeprefix("rollout/opd/"): value for name, value in metrics.items()}
        valid, kept = metrics["tokens_valid"], metrics["tokens_kept"]
        assert kept == (valid if selector == "full" else math.ceil(RATIO * valid))
        assert metrics["keep_ratio"] == pytest.approx(kept / valid)
        assert metrics["missing_share"] == 0
        assert all(math.isfinite(metrics[name]) for name in (*SCORES, "reverse_kl", "reverse_kl_selected"))
    assert all(math.isfinite(metrics["train/opd_reverse_kl"]) for metrics in run.steps.values())
    assert len(list(tmp_path.rglob("*.parquet"))) == len(run.rollouts)
    record("whole loop", f"{len(run.steps)} rollouts", selector)


@pytest.mark.parametrize("entry", ["train.py", "train_opd.py"])
def test_the_first_rollout_is_the_students_own_only_with_the_patch(entry, upstreams_stack, with_hooks, record):
    """A teacher in the trainer: without the patch the first update sends its weights to the rollout server."""
    flags = ("--use-opd", "--opd-type", "megatron", "--opd-teacher-load", str(upstreams_stack.models / "teacher"))
    flags += ("--rm-type", "random")
    run = upstreams_stack.train(with_hooks, *flags, "--opd-kl-coef", "1.0", entry=entry)
    assert run.code == 0, run.text[-5000:]
    difference = run.steps[0]["train/train_rollout_logprob_abs_diff"]
    leaked = entry == "train.py"
    assert (difference > 10 * SAME_WEIGHTS) if leaked else (difference < SAME_WEIGHTS)
    who = "upstream" if leaked else "ours"
    record("Megatron teacher", f"first rollout {difference:.3f} nats from the actor's log-probs", who)
