"""Our loss inside slime's wrapper on real Megatron process groups is that of one float64 process."""

import json
import os
import subprocess
import sys

import pytest
import torch
from slime.backends.megatron_utils import opd_loss, opd_rows
from slime.utils.opd_settings import slime_options

from . import rollouts
from .conftest import ROOT, STAND_IN

LAYOUTS = ("one", "tp2", "cp2", "cp2_gathered", "tp2_cp2")
CASES = (
    "forward",
    "reverse_renormalised",
    "jsd",
    "jsd_per_token",
    "jsd_recomputed",
    "jsd_with_policy",
    "taid",
    "gate",
    "entropy_aware",
    "megatron_top_k",
    "megatron_top_k_gate",
    "megatron_full",
    "megatron_full_gate",
)


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """{layout: {case: largest relative errors over ranks and micro-batches}}"""
    return results("spread_losses.py", tmp_path_factory.mktemp("spread") / "errors.json")


def results(program, out):
    """What a program of this folder writes. Megatron warns as it is imported."""
    program = [sys.executable, "-W", "ignore", str(ROOT / "tests/slime" / program), str(out)]
    paths = os.pathsep.join(map(str, (ROOT / "slime_patch", STAND_IN)))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_every_layout_and_case_ran(errors):
    assert set(errors) == set(LAYOUTS)
    assert all(set(cases) == set(CASES) for cases in errors.values())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_loss_gradient_and_numbers_are_those_of_one_float64_process(errors, layout, case):
    found = errors[layout][case]
    assert found["gradient"] < 1e-5, "the gradient, of this rank's rows and columns"
    assert found["loss"] < 1e-5 and found["metrics"] < 1e-5


def test_hidden_states_and_head_of_a_real_megatron_model_rebuild_its_logits(tmp_path):
    found = results("spread_teacher.py", tmp_path / "differences.json")
    assert set(found) == {"tp1_untied", "tp1_tied", "tp2_untied", "tp2_tied"}
    assert max(found.values()) < 1e-6


def has_policy_loss(**values):
    plain = {"opd_loss": "jsd", "kl_coef": 0.0, "entropy_coef": 0.0, "use_kl_loss": False}
    args = rollouts.arguments(**plain | values)
    return opd_loss.has_policy_loss(args, slime_options(args))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, False),
        ({"opd_loss": "entropy_aware", "opd_entropy_gate": "sigmoid"}, False),
        ({"opd_loss": "entropy_aware"}, True),
        ({"opd_task_reward": "rm"}, True),
        ({"opd_type": "megatron"}, True),
        ({"load_debug_rollout_data": "dump.pt"}, True),
        ({"advantage_estimator": "ppo"}, True),
        ({"kl_coef": 0.1}, True),
        ({"entropy_coef": 0.1}, True),
        ({"use_kl_loss": True}, True),
    ],
)
def test_slimes_policy_loss_is_left_out_only_where_the_settings_make_it_zero(values, wanted):
    assert has_policy_loss(**values) is wanted


def test_sums_become_means_over_distilled_tokens_and_other_numbers_stay():
    reduced = {opd_loss.SUM + name: 3.0 * place for place, name in enumerate(opd_loss.MEANS)}
    numbers, found = opd_loss.means({"loss": 7.0, opd_loss.COUNT: 1.5, **reduced})
    assert found == {name: 2.0 * place for place, name in enumerate(opd_loss.MEANS)}
    assert numbers == {"loss": 7.0} | {f"opd/{name}": value for name, value in found.items()}
    assert opd_loss.means({"loss": 7.0, opd_loss.COUNT: 0.0, **dict.fromkeys(reduced, 0.0)}) == ({"loss": 7.0}, None)


def test_a_list_of_tokens_that_the_student_lacks_is_not_distilled_and_the_others_are(monkeypatch):
    monkeypatch.setattr(opd_rows.Layout, "of", staticmethod(lambda args: opd_rows.Layout()))
    monkeypatch.setattr(opd_loss, "vocab_shard", lambda args, columns: opd_rows.VocabShard(None, 0, args.vocab_size))
    args = rollouts.arguments(opd_loss="jsd", kl_coef=0.0, entropy_coef=0.0, use_kl_loss=False, vocab_size=5)
    batch = {"total_lengths": [4], "response_lengths": [2]}
    logits, losses = torch.randn(1, 6, 7), []
    for ids in ([[5, 6], [1, 0]], [[-1, -1], [1, 0]]):
        lists = opd_rows.TopK(torch.tensor(ids, dtype=torch.int32), torch.tensor([[0.5, 0.3]] * 2).log())
        batch["unconcat_tokens"] = [torch.arange(4)]
        weight = torch.tensor([float(ids[0][0] > 0), 1.0])
        opd_rows.hold(batch["unconcat_tokens"], [opd_rows.TokenRows(weight, lists)])
        loss, log = opd_loss.opd_loss_function(args, batch, logits.clone().requires_grad_(), torch.sum)
        assert float(log[opd_loss.COUNT]) == 1 and loss.isfinite()
        losses.append(loss.item())
    assert losses[0] == losses[1] > 0


def test_a_micro_batch_without_a_distilled_token_joins_the_backward_with_a_gradient_of_zero(monkeypatch):
    monkeypatch.setattr(opd_rows.Layout, "of", staticmethod(lambda args: opd_rows.Layout()))
    monkeypatch.setattr(opd_loss, "vocab_shard", lambda args, columns: opd_rows.VocabShard(None, 0, columns))
    tokens = [torch.arange(4)]
    opd_rows.hold(tokens, [opd_rows.TokenRows(torch.zeros(2), opd_rows.TopK.missing(2, 3))])
    batch = {"unconcat_tokens": tokens, "total_lengths": [4], "response_lengths": [2]}
    logits = torch.randn(1, 6, 5, requires_grad=True)
    args = rollouts.arguments(opd_loss="jsd", kl_coef=0.0, entropy_coef=0.0, use_kl_loss=False, vocab_size=5)
    loss, log = opd_loss.opd_loss_function(args, batch, logits, torch.sum)
    loss.backward()
    assert loss.item() == 0 and torch.equal(logits.grad, torch.zeros_like(logits))
    assert float(log[opd_loss.COUNT]) == 0 and all(float(value) == 0 for value in log.values())
    assert all(value.ndim == 0 and not value.requires_grad for value in log.values())
