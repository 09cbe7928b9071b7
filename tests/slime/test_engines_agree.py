"""The drop-ins and the CPU engine select the same tokens and weigh them alike, given the same samples."""

import math

import pytest
import torch
from local_engine.rollout import score
from slime.rollout.tip_compat import apply_mask, batch_of, select
from slime.utils.types import Sample
from ta_opd import SELECTORS, Supports, masked_mean, select_tokens, token_scores
from ta_opd.carrier import unpack
from ta_opd.slime_options import SlimeOptions
from ta_opd.support import TopK
from ta_opd.teacher.signal import TeacherSignal

from . import rollouts

V = 12
LENGTHS = (9, 1, 0, 20, 7, 13)
MASKS = [selector.mask for selector in SELECTORS]


def both(seed, k, exact=False):
    """Samples of slime and the logits they come from, one token without a teacher."""
    samples, logits = [], []
    for index, n in enumerate(LENGTHS):
        student, teacher, drawn = rollouts.draw(seed * 100 + index, n, V)
        top = rollouts.rows(student, k)
        asked = torch.log_softmax(teacher, -1).gather(1, torch.from_numpy(top.ids).long()).numpy() if exact else None
        sample = Sample(index=index, tokens=[1, *drawn.tolist()], response_length=n, reward=0.0)
        sample.rollout_log_probs = rollouts.sampled(student, drawn).tolist()
        sample.opd_student = top
        sample.opd_teacher = TeacherSignal(rollouts.sampled(teacher, drawn).numpy(), rollouts.rows(teacher, k), asked)
        samples.append(sample)
        logits.append((student, teacher, drawn))
    samples[3].opd_teacher.logprobs[4] = math.nan
    return samples, [torch.cat(parts) for parts in zip(*logits, strict=True)]


def settings(mask, k, **values):
    return SlimeOptions(topk_metrics_k=k, budget_mask=mask, budget_ratio=0.3, **values)


def engine(logits, options, step, known):
    """What the engine's step does between its models and its loss."""
    scored = score(*logits, options.topk_metrics_k, options.score_variant)
    mask = torch.ones(len(known), dtype=torch.int8)
    lengths = torch.tensor(LENGTHS)
    return scored, select_tokens(scored.scores, mask, lengths, options, rollout_id=step, known=known)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("mask", MASKS)
def test_with_complete_lists_both_select_the_same_tokens(mask, variant):
    for seed in range(3):
        samples, logits = both(seed, V)
        options = settings(mask, V, score_variant=variant)
        batch = batch_of(samples, options)
        ours = select(batch, seed)
        scored, theirs = engine(logits, options, seed, batch.known)
        for name in ("entropy", "disagreement", "compatibility"):
            torch.testing.assert_close(
                getattr(batch.scores, name), getattr(scored.scores, name), rtol=2e-4, atol=2e-5, msg=name
            )
        assert ours.kept == theirs.kept > 0
        assert torch.equal(ours.keep, theirs.keep)


@pytest.mark.parametrize("exact", [False, True], ids=["lower bound", "exact C"])
@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("mask", MASKS)
def test_with_short_lists_equal_knowledge_selects_the_same_tokens(mask, variant, exact):
    samples, (student, teacher, _) = both(7, 3, exact)
    options = settings(mask, 3, score_variant=variant, exact_cmass=exact)
    batch = batch_of(samples, options)
    top = TopK.from_logits(student, 3)
    asked = torch.log_softmax(teacher, -1).gather(1, top.ids.long()) if exact else None
    scores = token_scores(Supports(top, TopK.from_logits(teacher, 3), teacher_on_student=asked), variant)
    everything = torch.ones(len(student))
    theirs = select_tokens(scores, everything, torch.tensor(LENGTHS), options, rollout_id=2, known=batch.known)
    assert torch.equal(select(batch, 2).keep, theirs.keep) and theirs.kept > 0


@pytest.mark.parametrize("normaliser", ["selected", "sample"])
@pytest.mark.parametrize("target", ["opd", "loss"])
def test_the_engines_loss_is_slimes_mean_of_the_carried_term(target, normaliser):
    samples, logits = both(3, V)
    options = settings("teachability", V, normaliser=normaliser, mask_target=target)
    batch = batch_of(samples, options)
    scored, theirs = engine(logits, options, 0, batch.known)
    difference = scored.student_logprob - scored.teacher_logprob
    expected = masked_mean(difference, theirs.keep, torch.tensor(LENGTHS), normaliser=normaliser)
    apply_mask(batch, select(batch, 0), packed=True, per_token=False)
    means = []
    for sample in samples:
        mask = torch.tensor(sample.loss_mask if target == "loss" else [1] * sample.response_length)
        rows = unpack(sample.teacher_log_probs, mask > 0)
        term = torch.where(rows.kept, torch.tensor(sample.rollout_log_probs) - rows.teacher_logprob, 0) * rows.weight
        means.append(float((term * mask).sum()) / max(int(mask.sum()), 1))
    assert math.fsum(means) / len(means) == pytest.approx(float(expected), rel=1e-5)
