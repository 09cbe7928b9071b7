"""Every loss trains: the divergence it minimises falls on contexts frozen before training, with and without a mask."""

import copy
from dataclasses import replace

import pytest
import torch
from local_engine.opd import OPDRun
from ta_opd import LOSSES, Options, divergences

# What each loss brings down; with an interpolated target or an open gate, the forward KL to the teacher itself.
MINIMISED = {
    "sampled_token": divergences.reverse_kl,
    "forward_kl": divergences.forward_kl,
    "reverse_kl": divergences.reverse_kl,
    "jsd": divergences.generalized_jsd,
    "skew_forward_kl": divergences.skew_forward_kl,
    "skew_reverse_kl": divergences.skew_reverse_kl,
    "taid": divergences.forward_kl,
    "entropy_aware": divergences.forward_kl,
    "taid_entropy_aware": divergences.forward_kl,
}


@pytest.fixture
def sharp_teacher(teacher):
    """An untrained teacher whose logits are eight times as far apart: one that there is something to learn from."""
    sharp = copy.deepcopy(teacher)
    with torch.no_grad():
        sharp.model.norm.weight.mul_(8)
    return sharp


@pytest.fixture
def disturbed_student(sharp_teacher):
    """The teacher with noise in its weights: peaked already, so that a sampled token tells something."""
    noisy, generator = copy.deepcopy(sharp_teacher), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in noisy.parameters():
            if weight.ndim == 2:
                weight.add_(weight.std() * torch.randn(weight.shape, generator=generator))
    return noisy


@pytest.mark.parametrize("ratio", [1.0, 0.1])
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_what_a_loss_minimises_falls_on_frozen_contexts(
    loss, ratio, corpus, sharp_teacher, disturbed_student, tiny, tmp_path
):
    defaults = replace(tiny, steps=8, responses_per_step=48, lr=3e-4)
    options = Options(topk_metrics_k=8, budget_mask="teachability", budget_ratio=ratio, loss=loss)
    run = OPDRun(disturbed_student, sharp_teacher, corpus.train_prompts, options, defaults, 0, tmp_path)
    frozen = run.responses(defaults.steps)

    def distance():
        with torch.no_grad():
            return float(MINIMISED[loss](frozen.logits(run.student), frozen.logits(sharp_teacher)).mean())

    before = distance()
    for step in range(defaults.steps):
        run.step(step)
    assert distance() < 0.95 * before
