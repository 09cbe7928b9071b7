"""The trainer's hooks, run the way slime runs them, against the advantages written out in float64."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slime.backends.megatron_utils import loss, opd_hooks
from slime.rollout.on_policy_distillation import post_process_rewards

from . import rollouts
from .rollouts import arguments

seeds = st.integers(0, 10**4)


def trainer(whiten=False, **values):
    """Arguments as a train actor has them after its start."""
    args = arguments(normalize_advantages=whiten, **values)
    opd_hooks.initialize(args)
    return args


def received(samples, rewards, seed=0):
    """What slime's trainer has of samples: a tensor for each, its own log-probs unlike the rollout's."""
    generator = torch.Generator().manual_seed(seed)
    rollout = [torch.tensor(s.rollout_log_probs) for s in samples]
    data = {
        "rewards": rewards,
        "response_lengths": [s.response_length for s in samples],
        "total_lengths": [len(s.tokens) for s in samples],
        "loss_masks": [torch.tensor(s.loss_mask or [1] * s.response_length, dtype=torch.int) for s in samples],
        "rollout_log_probs": rollout,
        "log_probs": [x + 0.1 * torch.randn(len(x), generator=generator) for x in rollout],
        "teacher_log_probs": [s.teacher_log_probs for s in samples],
    }
    if samples and samples[0].rollout_routed_experts is not None:
        data["rollout_routed_experts"] = [torch.as_tensor(s.rollout_routed_experts) for s in samples]
    return data


def rollout(seed, lengths, args):
    """Samples with holes after the rollout side's work, and the trainer's data of them."""
    samples = rollouts.batch(seed, lengths)
    for number, sample in enumerate(samples):
        sample.reward = float(number % 3)
        if sample.response_length > 2:
            sample.loss_mask = [1] * (sample.response_length - 1) + [0]
            sample.opd_teacher.logprobs[0] = (np.nan, -np.inf, -1.0)[number % 3]
    _, rewards = post_process_rewards(args, samples)
    return samples, received(samples, rewards, seed)


def slow(args, samples, data, whiten):
    """A_t = base_t - coef w_t (log p_S - log p_T) in float64; base is the reward, whitened or not."""
    base = [np.full(n, r, np.float64) for n, r in zip(data["response_lengths"], data["rewards"], strict=True)]
    if whiten:
        mask = np.concatenate([m.numpy() for m in data["loss_masks"]]).astype(bool)
        inside = np.concatenate(base)[mask]
        base = [(b - inside.mean()) / (inside.std(ddof=1) + 1e-8) for b in base]
    student = data["rollout_log_probs" if args.use_rollout_logprobs else "log_probs"]
    for values, log_s, sample in zip(base, student, samples, strict=True):
        for t, (teacher, weight) in enumerate(sample.teacher_log_probs.double().tolist()):
            if weight > 0:
                values[t] -= args.opd_kl_coef * weight * (float(log_s[t]) - teacher)
    return base


@pytest.mark.parametrize("use_rollout_logprobs", [False, True])
@pytest.mark.parametrize("whiten", [False, True])
@given(seed=seeds, lengths=st.lists(st.integers(0, 6), min_size=2, max_size=5))
def test_the_term_is_subtracted_from_slimes_finished_advantage_on_selected_tokens(
    whiten, use_rollout_logprobs, seed, lengths
):
    lengths = [4, 3, *lengths]
    values = {"opd_budget_mask": "random", "opd_budget_ratio": 0.4, "use_rollout_logprobs": use_rollout_logprobs}
    samples, data = rollout(seed, lengths, arguments(**values))
    expected = slow(arguments(**values), samples, data, whiten)
    loss.compute_advantages_and_returns(trainer(whiten, **values), data)
    found = torch.cat(data["advantages"])
    assert found.dtype == torch.float32 and found.isfinite().all()
    assert found.tolist() == pytest.approx(np.concatenate(expected).tolist(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("whiten", [False, True])
def test_tokens_outside_the_selection_keep_slimes_advantage_to_the_bit(whiten):
    values = {"opd_budget_mask": "random", "opd_budget_ratio": 0.3}
    samples, data = rollout(3, [5, 6, 4], arguments(**values))
    plain = dict(data)
    loss.compute_advantages_and_returns(
        arguments(normalize_advantages=whiten, use_opd=False, custom_advantage_function_path=None), plain
    )
    loss.compute_advantages_and_returns(trainer(whiten, **values), data)
    for ours, theirs, sample in zip(data["advantages"], plain["advantages"], samples, strict=True):
        kept = sample.teacher_log_probs[:, 1] > 0
        assert torch.equal(ours[~kept], theirs[~kept]) and (ours[kept] != theirs[kept]).all()
    assert all(map(torch.equal, data["returns"], plain["returns"]))


def test_without_a_selector_and_whitening_the_advantages_are_upstreams_to_the_bit():
    samples = rollouts.batch(1, [4, 5, 0])
    _, rewards = post_process_rewards(arguments(), samples)
    data = received(samples, rewards)
    upstream = {**data, "teacher_log_probs": [s.teacher_log_probs[:, 0] for s in samples]}
    loss.compute_advantages_and_returns(arguments(custom_advantage_function_path=None), upstream)
    loss.compute_advantages_and_returns(trainer(), data)
    assert all(map(torch.equal, data["advantages"], upstream["advantages"]))


def test_a_teacher_inside_the_trainer_gives_upstreams_term_on_the_loss_mask():
    samples, data = rollout(4, [4, 5], arguments())
    data["teacher_log_probs"] = [s.teacher_log_probs[:, 0] for s in samples]
    args = trainer(opd_type="megatron")
    loss.compute_advantages_and_returns(args, data)
    for i, sample in enumerate(samples):
        teacher = sample.teacher_log_probs[:, 0]
        on = teacher.isfinite() & (data["loss_masks"][i] != 0)
        expected = torch.where(on, data["rewards"][i] - 0.7 * (data["log_probs"][i] - teacher), data["rewards"][i])
        torch.testing.assert_close(data["advantages"][i], expected)


def test_a_coefficient_of_zero_is_no_term_even_beside_infinities():
    _, data = rollout(5, [4, 4, 4], arguments())
    loss.compute_advantages_and_returns(trainer(opd_kl_coef=0.0), data)
    for advantages, reward in zip(data["advantages"], data["rewards"], strict=True):
        assert torch.equal(advantages, torch.full_like(advantages, reward))


@pytest.fixture
def alone(monkeypatch):
    """One rank: its collectives are itself."""
    mpu = SimpleNamespace(
        get_data_parallel_group_gloo=lambda with_context_parallel: None,
        get_data_parallel_rank=lambda with_context_parallel: 0,
        get_tensor_model_parallel_rank=lambda: 0,
        is_pipeline_last_stage=lambda: True,
    )
    core = ModuleType("megatron.core")
    core.mpu = mpu
    monkeypatch.setitem(sys.modules, "megatron", ModuleType("megatron"))
    monkeypatch.setitem(sys.modules, "megatron.core", core)
    monkeypatch.setattr(opd_hooks.distributed, "all_reduce", lambda rows, group: None)
    return mpu


def trained(args, seed=6, lengths=(4, 5, 0)):
    values = {k: v for k, v in vars(args).items() if k not in ("normalize_advantages", "ta_opd_whiten")}
    samples, data = rollout(seed, list(lengths), arguments(**values))
    loss.compute_advantages_and_returns(args, data)
    return samples, data


def test_afterwards_slimes_names_hold_the_teachers_log_probs_and_the_reverse_kl(alone):
    args = trainer()
    samples, data = trained(args)
    opd_hooks.report(args, 3, data)
    for i, sample in enumerate(samples):
        teacher, student = sample.teacher_log_probs[:, 0], data["log_probs"][i]
        known = teacher.isfinite()
        assert torch.equal(data["teacher_log_probs"][i], torch.where(known, teacher, student))
        assert torch.equal(data["opd_reverse_kl"][i], torch.where(known, student - teacher, 0))
    for name, value in data.items():
        floats = all(isinstance(x, torch.Tensor) and x.ndim == 1 for x in value) or not isinstance(
            value[0], torch.Tensor
        )
        assert floats, f"slime cannot log {name}"
    assert "rollout_routed_experts" not in data and "ta_opd_carried" not in data


def test_metrics_are_logged_once_under_their_own_names(alone, tracked):
    args = trainer(use_wandb=True, opd_budget_mask="random", opd_budget_ratio=0.5)
    samples, data = trained(args)
    tracked.clear()
    opd_hooks.report(args, 3, data)
    ((metrics, step_key),) = tracked
    assert step_key == "rollout/step" and metrics["rollout/step"] == 30
    rows, student = torch.cat([s.teacher_log_probs for s in samples]), torch.cat(data["log_probs"])
    difference = (student - rows[:, 0]).double()
    on, kept = (rows[:, 1] >= 0) & rows[:, 0].isfinite(), rows[:, 1] > 0
    assert metrics["rollout/opd/reverse_kl"] == pytest.approx(float(difference[on].mean()), rel=1e-6)
    assert metrics["rollout/opd/reverse_kl_selected"] == pytest.approx(float(difference[kept].mean()), rel=1e-6)
    assert metrics["rollout/opd/keep_ratio"] == int(kept.sum()) / int((rows[:, 1] >= 0).sum())


@pytest.mark.parametrize(
    ("name", "value"),
    [("get_data_parallel_rank", 1), ("get_tensor_model_parallel_rank", 1), ("is_pipeline_last_stage", False)],
)
def test_other_ranks_log_nothing(alone, tracked, monkeypatch, name, value):
    monkeypatch.setattr(alone, name, lambda **_: value)
    args = trainer(use_wandb=True)
    _, data = trained(args)
    tracked.clear()
    opd_hooks.report(args, 3, data)
    assert not tracked and "opd_reverse_kl" in data


def test_replayed_routing_stays_where_it_is(alone):
    args = trainer(use_rollout_routing_replay=True)
    _, data = trained(args)
    data["rollout_routed_experts"] = ["replayed"]
    opd_hooks.report(args, 3, data)
    assert data["rollout_routed_experts"] == ["replayed"]


def test_a_stage_without_advantages_reports_nothing_and_joins_no_collective(monkeypatch):
    data = {"rollout_routed_experts": [torch.zeros(9, 2)], "tokens": []}
    opd_hooks.report(trainer(), 3, data)
    assert data == {"tokens": []}


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("log_probs", "OPD needs the student's log-probs"),
        ("teacher_log_probs", "no teacher log-probs came with the rollout"),
    ],
)
def test_what_the_term_is_made_of_must_be_there(missing, message):
    _, data = rollout(1, [3], arguments())
    del data[missing]
    with pytest.raises(ValueError, match=message):
        opd_hooks.compute_advantages(trainer(), data)


@pytest.mark.parametrize("rollout_logprobs", [None, [torch.tensor([-1.0, -2.0])]])
def test_a_critic_has_values_and_nothing_to_distil(rollout_logprobs):
    args = rollouts.arguments(ta_opd_whiten=False)
    data = {
        "values": [torch.tensor([0.5, 0.25])],
        "rewards": [2.0],
        "loss_masks": [torch.ones(2)],
        "total_lengths": [5],
        "response_lengths": [2],
        "teacher_log_probs": [torch.tensor([[-1.0, 1.0], [-3.0, 1.0]])],
        "rollout_log_probs": rollout_logprobs,
    }
    opd_hooks.compute_advantages(args, data)
    assert data["returns"][0].tolist() == [2.0, 2.0] and data["advantages"][0].tolist() == [2.0, 2.0]
