"""Samples of slime -> supports -> mask -> what slime carries, against slow references and slime's two means."""

import math
from argparse import Namespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slime.rollout.tip_compat import apply_mask, batch_of, loss_mask, select, student_topk
from slime.utils.opd_settings import slime_options
from slime.utils.types import Sample
from ta_opd.carrier import unpack
from ta_opd.slime_options import SlimeOptions
from ta_opd.support import NO_TOKEN, Provenance
from ta_opd.teacher.signal import TeacherSignal, TopKRows

from . import rollouts

seeds = st.integers(0, 10**6)
K = 4


def options(**values):
    return SlimeOptions(**({"topk_metrics_k": K, "budget_mask": "random", "budget_ratio": 0.5} | values))


@st.composite
def ragged(draw):
    """Samples with empty responses, masked tokens, removed samples, absent teachers and rollouts split in several."""
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=6))
    samples = rollouts.batch(draw(seeds) % 1000, lengths, K)
    for sample in samples:
        sample.rollout_id = draw(st.none() | st.integers(0, 2))
        sample.remove_sample = draw(st.sampled_from([False, False, True]))
        if draw(st.booleans()):
            n = sample.response_length
            sample.loss_mask = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
        if draw(st.sampled_from([True, False, False])):
            rollouts.absent(sample)
        elif sample.response_length:
            sample.opd_teacher.logprobs[0] = draw(st.sampled_from([-1.0, math.nan, -math.inf]))
    return samples


def masks(samples):
    result = [[0] * s.response_length if s.remove_sample else s.loss_mask or [1] * s.response_length for s in samples]
    return [np.array(m, bool) for m in result]


def reduced(values, samples, loss_masks, per_token):
    """slime's mean of token values: over rollouts of the mean over masked tokens, or over all masked tokens."""
    values = [list(part) for part in values]
    kept = [[v * m for v, m in zip(part, mask, strict=True)] for part, mask in zip(values, loss_masks, strict=True)]
    if per_token:
        return math.fsum(map(math.fsum, kept)) / sum(max(int(sum(m)), 1) for m in loss_masks)
    keys = [("alone", i) if s.rollout_id is None else s.rollout_id for i, s in enumerate(samples)]
    total = {key: sum(int(sum(m)) for k, m in zip(keys, loss_masks, strict=True) if k == key) for key in keys}
    return math.fsum(math.fsum(p) / max(total[k], 1) for k, p in zip(keys, kept, strict=True)) / len(total)


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("target", ["opd", "loss"])
@given(samples=ragged())
def test_slimes_own_mean_of_the_carried_term_is_the_mean_over_all_selected_tokens(target, per_token, samples):
    batch = batch_of(samples, options(mask_target=target, normaliser="selected"))
    selection, before = select(batch, 3), masks(samples)
    apply_mask(batch, selection, packed=True, per_token=per_token)
    after = masks(samples)
    carried = [unpack(s.teacher_log_probs, torch.from_numpy(m)) for s, m in zip(samples, after, strict=True)]
    keep = selection.keep.split(batch.lengths.tolist())
    terms, inside = [], []
    for sample, rows, mask in zip(samples, carried, keep, strict=True):
        difference = torch.tensor(sample.rollout_log_probs) - rows.teacher_logprob
        assert torch.equal(rows.kept, mask)
        terms.append(torch.where(mask, rows.weight * difference, 0.0).tolist())
        inside += difference[mask].tolist()
    expected = math.fsum(inside) / max(len(inside), 1)
    assert reduced(terms, samples, after, per_token) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for rows, mask, masked in zip(carried, before, after, strict=True):
        assert np.array_equal(rows.valid.numpy(), mask)
        assert np.array_equal(masked, rows.kept.numpy() if target == "loss" else mask)


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("target", ["opd", "loss"])
@given(samples=ragged())
def test_without_a_selector_every_known_valid_token_of_a_whole_rollout_weighs_one(target, per_token, samples):
    for sample in samples:
        sample.opd_teacher = TeacherSignal(np.full(sample.response_length, -1, np.float32), sample.opd_teacher.topk)
    batch = batch_of(samples, options(budget_mask="none", mask_target=target))
    expected = masks(samples)
    apply_mask(batch, select(batch, 0), packed=True, per_token=per_token)
    for sample, mask in zip(samples, expected, strict=True):
        rows = unpack(sample.teacher_log_probs, torch.from_numpy(mask))
        assert torch.equal(rows.weight, torch.from_numpy(mask).float()) and np.array_equal(rows.valid, mask)


@given(samples=ragged())
def test_a_batch_is_its_samples_one_after_another(samples):
    batch = batch_of(samples, options())
    n = sum(s.response_length for s in samples)
    assert batch.lengths.tolist() == [s.response_length for s in samples] and len(batch.valid) == n
    assert torch.equal(batch.student_logprob, rollouts.joined([s.rollout_log_probs for s in samples]))
    teacher = rollouts.joined([s.opd_teacher.logprobs for s in samples])
    torch.testing.assert_close(batch.teacher_logprob, teacher, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(batch.known, teacher.isfinite())
    assert np.array_equal(batch.valid.numpy(), np.concatenate(masks(samples)))
    same = [[a is b or (a.rollout_id is not None and a.rollout_id == b.rollout_id) for b in samples] for a in samples]
    assert (batch.rollout[:, None] == batch.rollout[None]).tolist() == same
    assert sorted(set(batch.rollout.tolist())) == list(range(int(batch.rollout.max()) + 1))


@given(samples=ragged(), target=st.sampled_from(["teachability", "entropy", "random", "none"]))
def test_the_budget_is_exact_among_tokens_that_have_a_signal(samples, target):
    batch = batch_of(samples, options(budget_mask=target, budget_ratio=0.3))
    selection = select(batch, 1)
    able = batch.valid & batch.known
    rho = 1.0 if target == "none" else 0.3
    scored = able if target in ("random", "none") else able & batch.scores.entropy.isfinite()
    if target == "teachability":
        scored = scored & batch.scores.compatibility.isfinite() & batch.scores.disagreement.isfinite()
    assert not (selection.keep & ~able).any()
    assert selection.kept == min(math.ceil(round(rho * int(batch.valid.sum()), 9)), int(scored.sum()))


def test_without_the_advantage_hook_the_log_probs_are_plain_and_finite():
    samples = rollouts.batch(1, [4, 0, 3], K)
    rollouts.absent(samples[2])
    samples[0].opd_teacher.logprobs[1] = -math.inf
    samples[2].rollout_log_probs = None
    batch = batch_of(samples, options(mask_target="loss"))
    selection = select(batch, 0)
    apply_mask(batch, selection, packed=False, per_token=False)
    assert [s.teacher_log_probs.shape for s in samples] == [(4,), (0,), (3,)]
    teacher, student = samples[0].opd_teacher.logprobs, samples[0].rollout_log_probs
    assert samples[0].teacher_log_probs.tolist() == pytest.approx([teacher[0], student[1], teacher[2], teacher[3]])
    assert samples[2].teacher_log_probs.tolist() == [0, 0, 0]
    assert samples[0].loss_mask == selection.keep[:4].int().tolist() and samples[2].loss_mask == [0, 0, 0]


def test_without_the_advantage_hook_the_target_opd_is_refused_to_a_person():
    batch = batch_of(rollouts.batch(1, [4], K), options())
    with pytest.raises(ValueError, match="--custom-advantage-function-path"):
        apply_mask(batch, select(batch, 0), packed=False, per_token=False)


def test_a_sample_that_knows_nothing_is_missing_and_never_zero():
    bare = Sample(tokens=[1, 2, 3, 4], response_length=3)
    rows, batch = student_topk(bare, K), batch_of([bare], options())
    assert rows.ids.tolist() == [[NO_TOKEN] * K] * 3 and np.isneginf(rows.logprobs).all()
    assert batch.student_logprob.isnan().all() and batch.teacher_logprob.isnan().all()
    assert batch.scores.entropy.isnan().all() and batch.scores.compatibility.isnan().all()
    assert batch.failures() == {"not_asked": 1}
    assert select(batch, 0).kept == 0


def test_an_answer_about_another_response_is_not_used():
    sample = rollouts.sample(1, 3, K)
    sample.opd_teacher = rollouts.sample(1, 4, K).opd_teacher
    batch = batch_of([sample], options())
    assert batch.teacher_logprob.isnan().all() and batch.failures() == {"another_response": 1}
    assert batch.scores.disagreement.isnan().all()


def test_students_rows_are_padded_to_the_response_and_another_k_is_refused():
    sample = rollouts.sample(1, 3, K)
    whole = sample.opd_student
    sample.response_length = 5
    assert student_topk(sample, K).ids.tolist() == whole.ids.tolist() + [[NO_TOKEN] * K] * 2
    with pytest.raises(ValueError, match="the student's top-4; --opd-topk-metrics-k is 3"):
        student_topk(sample, 3)


def test_more_rows_than_tokens_belong_to_another_response():
    sample = rollouts.sample(1, 3, K)
    sample.response_length = 2
    rows = student_topk(sample, K)
    assert rows.ids.tolist() == [[NO_TOKEN] * K] * 2 and np.isneginf(rows.logprobs).all()


@pytest.mark.parametrize(("groups", "expected"), [([7, 7, 3], [0, 0, 1]), ([None] * 3, [0, 0, 1])])
def test_slime_v030_tells_rollouts_apart_by_group_id_and_else_by_index(groups, expected):
    samples = [rollouts.sample(1, 2, K, index=index) for index in (5, 5, 6)]
    for sample, group in zip(samples, groups, strict=True):
        sample.group_id = group
    assert batch_of(samples, options()).rollout.tolist() == expected


def test_an_answer_with_lists_of_another_size_keeps_its_log_probs_and_loses_its_lists():
    sample, other = rollouts.sample(1, 3, K), rollouts.sample(2, 2, K)
    lists = [TopKRows.missing(3, 0), rollouts.sample(1, 3, K - 1).opd_teacher.topk]
    for shorter in lists:
        sample.opd_teacher = TeacherSignal(sample.opd_teacher.logprobs, shorter)
        batch = batch_of([sample, other], options())
        assert batch.known.all() and batch.scores.disagreement.isnan().tolist() == [True] * 3 + [False] * 2
    assert (batch.supports[0].teacher.ids == NO_TOKEN).all() and batch.supports[0].teacher.k == K


@pytest.mark.parametrize(("exact", "provenance"), [(True, Provenance.EXACT), (False, Provenance.LOWER_BOUND)])
def test_the_teachers_numbers_at_the_students_list_make_c_exact(exact, provenance):
    samples = [rollouts.sample(seed, 5, K, exact=exact) for seed in range(3)]
    batch = batch_of(samples, options(exact_cmass=exact))
    found = set(batch.scores.compatibility_provenance.tolist())
    assert int(provenance) in found and (not exact or found == {int(Provenance.EXACT)})
    if exact:
        rows = [np.exp(s.opd_teacher.on_student.astype(np.float64)).sum(1) for s in samples]
        assert batch.scores.compatibility.tolist() == pytest.approx(np.concatenate(rows).tolist(), rel=1e-5)


def test_a_failed_sample_among_exact_ones_is_missing():
    samples = [rollouts.sample(seed, 3, K, exact=True) for seed in range(2)]
    rollouts.absent(samples[1])
    scores = batch_of(samples, options(exact_cmass=True)).scores
    assert scores.compatibility[:3].isfinite().all() and scores.compatibility[3:].isnan().all()


def test_an_answer_without_the_numbers_asked_for_bounds_c_by_the_lists():
    sample = rollouts.sample(1, 6, K)
    exact, bounded = (batch_of([sample], options(exact_cmass=asked)).scores for asked in (True, False))
    assert torch.equal(exact.compatibility_provenance, bounded.compatibility_provenance)
    assert int(Provenance.LOWER_BOUND) in exact.compatibility_provenance.tolist()
    assert torch.equal(exact.compatibility, bounded.compatibility)


def test_without_top_k_nothing_is_scored_and_the_whole_response_is_distilled():
    samples = [rollouts.sample(seed, 3, k=0) for seed in range(2)]
    batch = batch_of(samples, SlimeOptions())
    assert batch.scores is None and select(batch, 0).keep.all()


@pytest.mark.parametrize("wrong", [[1], [1, 1, 1, 1]])
def test_a_loss_mask_of_another_length_is_an_invariant_broken(wrong):
    with pytest.raises(AssertionError, match="loss mask of"):
        loss_mask(rollouts.sample(0, 3, loss_mask=wrong))


def test_settings_come_from_attributes_however_they_got_there_and_unknown_ones_are_refused():
    args = Namespace(opd_type="sglang", opd_kl_coef=1.0, opd_teacher_load=None, opd_teacher_ckpt_step=None)
    assert slime_options(args) == SlimeOptions()
    args.opd_max_missing, args.use_opd, args.rm_type = 0.2, True, "math"
    assert slime_options(args) == SlimeOptions(max_missing=0.2)
    args.opd_max_mising = 0.3
    with pytest.raises(ValueError, match="unknown option opd_max_mising; did you mean opd_max_missing"):
        slime_options(args)
