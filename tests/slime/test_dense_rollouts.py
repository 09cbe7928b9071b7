"""What a loss of whole distributions finds on its way: lists in the carrier, advantages without the OPD term."""

import math

import numpy as np
import pytest
import torch
from slime.backends.megatron_utils import loss, opd_hooks, opd_rows
from slime.rollout.on_policy_distillation import post_process_rewards
from slime.utils.opd_versions import LOSS_PATH
from ta_opd.carrier import unpack

from . import rollouts
from .rollouts import arguments
from .test_opd_hooks import received


def dense(**values):
    place = {"loss_type": "custom_loss", "custom_loss_function_path": LOSS_PATH, "opd_loss": "jsd"}
    return arguments(**place | {"train_iters": 10} | values)


@pytest.fixture(autouse=True)
def one_rank(monkeypatch):
    """No process group: this rank is alone, and slime's trainer keeps its functions."""
    for name in ("report_dense_losses", "save_taid_with_checkpoints", "take_teacher_distributions"):
        monkeypatch.setattr(opd_hooks, name, lambda *rest: None)
    monkeypatch.setattr(opd_hooks, "reduced_metrics", lambda *rest: {})
    monkeypatch.setattr(opd_hooks, "logs_for_all", lambda: False)
    monkeypatch.setattr(opd_rows.Layout, "of", staticmethod(lambda args: opd_rows.Layout()))


@pytest.mark.parametrize(("metrics_k", "loss_k", "carried_k"), [(4, 0, 4), (4, 2, 2), (2, 4, 4), (0, 3, 3)])
def test_the_carrier_holds_as_many_entries_as_the_loss_reads(metrics_k, loss_k, carried_k):
    samples = rollouts.batch(1, [4, 0, 3], k=max(metrics_k, loss_k))
    for sample in samples:
        student = sample.opd_student
        sample.opd_student = type(student)(student.ids[:, :metrics_k], student.logprobs[:, :metrics_k])
    post_process_rewards(dense(opd_topk_metrics_k=metrics_k, opd_loss_top_k=loss_k), samples)
    for sample in samples:
        carried = unpack(sample.teacher_log_probs)
        assert carried.topk.k == carried_k and len(carried.topk) == sample.response_length
        assert np.array_equal(carried.topk.ids.numpy(), sample.opd_teacher.topk.ids[:, :carried_k])
        assert np.array_equal(carried.topk.logprobs.numpy(), sample.opd_teacher.topk.logprobs[:, :carried_k])


def test_sampled_token_carries_eight_bytes_a_token_as_before():
    samples = rollouts.batch(1, [4, 3])
    post_process_rewards(arguments(), samples)
    assert [s.teacher_log_probs.shape[1] * s.teacher_log_probs.element_size() for s in samples] == [8, 8]


def test_a_token_whose_list_is_empty_is_not_distilled_and_the_others_share_its_weight():
    samples = rollouts.batch(2, [6, 5])
    samples[0].opd_teacher.topk.ids[2] = -1
    rollouts.absent(samples[1])
    args = dense(opd_budget_mask="random", opd_budget_ratio=1.0)
    post_process_rewards(args, samples)
    first, second = (unpack(s.teacher_log_probs) for s in samples)
    assert first.kept.tolist() == [True, True, False, True, True, True] and not second.kept.any()
    assert float(first.weight.sum()) == pytest.approx(6.0)


def test_a_rollout_without_lists_stops_the_run():
    samples = rollouts.batch(2, [6, 5], k=2)
    with pytest.raises(RuntimeError, match=r"100.0% of the rollout's valid tokens have no teacher"):
        post_process_rewards(dense(opd_topk_metrics_k=0, opd_loss_top_k=3, opd_max_missing=0.5), samples)


def advantages(samples, **values):
    args = dense(**values)
    _, rewards = post_process_rewards(args, samples)
    data = received(samples, rewards)
    data["tokens"] = [torch.tensor(s.tokens) for s in samples]
    base = dict(data)
    opd_hooks.initialize(args)
    loss.compute_advantages_and_returns(arguments(use_opd=False, custom_advantage_function_path=None), base)
    loss.compute_advantages_and_returns(args, data)
    opd_hooks.report(args, 0, data)
    return data, base


@pytest.mark.parametrize(
    ("values", "has_term"),
    [
        ({"opd_loss": "jsd"}, False),
        ({"opd_loss": "taid"}, False),
        ({"opd_loss": "entropy_aware", "opd_entropy_gate": "sigmoid"}, False),
        ({"opd_loss": "entropy_aware"}, True),
    ],
)
def test_the_advantages_have_the_opd_term_only_where_sampled_token_opd_is_the_base(values, has_term):
    samples = rollouts.batch(3, [5, 4])
    for number, sample in enumerate(samples):
        sample.reward = float(number)
    data, base = advantages(samples, **values)
    same = [torch.equal(a, b) for a, b in zip(data["advantages"], base["advantages"], strict=True)]
    assert same == [not has_term] * 2
    assert all(kl.abs().sum() > 0 for kl in data["opd_reverse_kl"])


def test_the_loss_finds_weights_and_lists_by_the_tokens_and_slime_logs_none_of_them():
    samples = rollouts.batch(3, [5, 4])
    data, _ = advantages(samples, opd_budget_mask="teachability", opd_budget_ratio=0.5)
    held = opd_rows.held(data["tokens"])
    for rows, sample in zip(held, samples, strict=True):
        carried = unpack(sample.teacher_log_probs)
        assert torch.equal(rows.weight, carried.weight) and torch.equal(rows.topk.ids, carried.topk.ids)
    assert sum(int((rows.weight > 0).sum()) for rows in held) == math.ceil(0.5 * 9)
    assert not any(name.startswith("ta_opd") for name in data)
    for name in ("advantages", "teacher_log_probs", "opd_reverse_kl"):
        assert [part.shape for part in data[name]] == [(5,), (4,)]
