"""Metrics over real Megatron process groups are those of one process that holds every sample."""

import json
import os
import subprocess
import sys

import pytest
import torch
from slime.rollout.on_policy_distillation import post_process_rewards
from ta_opd.rollout_metrics import REVERSE_KL_METRICS, SAMPLE_METRICS, ratios

from . import rollouts, spread_layouts
from .conftest import ROOT, STAND_IN


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """What each rank of each layout logged. Megatron warns as it is imported, of what this machine has no use for."""
    out = tmp_path_factory.mktemp("spread") / "logged.json"
    program = [sys.executable, "-W", "ignore", str(ROOT / "tests/slime/spread_metrics.py"), str(out)]
    paths = os.pathsep.join(map(str, (ROOT / "slime_patch", STAND_IN, ROOT)))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def expected():
    """Every metric from all samples at once, in float64."""
    samples = spread_layouts.samples_with_holes()
    post_process_rewards(rollouts.arguments(opd_budget_mask="random", opd_budget_ratio=0.4), samples)
    rows = torch.cat([s.teacher_log_probs for s in samples]).double()
    student = torch.cat([torch.tensor(s.rollout_log_probs) for s in samples]).double()
    difference = (student.float() - rows[:, 0].float()).double()
    masks = ((rows[:, 1] >= 0) & rows[:, 0].isfinite(), rows[:, 1] > 0)
    of_samples = torch.stack([torch.as_tensor(s.rollout_routed_experts) for s in samples]).sum(0)
    means = {name: float(difference[m].mean()) for name, m in zip(REVERSE_KL_METRICS, masks, strict=True)}
    return {f"rollout/opd/{name}": value for name, value in (means | ratios(SAMPLE_METRICS, of_samples)).items()}


@pytest.mark.parametrize("layout", spread_layouts.LAYOUTS)
def test_one_rank_of_a_layout_logs_and_its_ratios_are_exact(layout, logged, expected):
    calls = [call for rank in logged[layout] for call in rank]
    assert len(calls) == 1
    assert calls[0].pop("rollout/step") == 30
    assert set(calls[0]) == set(expected) and len(expected) == 11
    assert calls[0] == pytest.approx(expected, rel=1e-12)
