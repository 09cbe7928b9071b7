"""Weights that turn slime's two means into ours, against slime's two means written out."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from ta_opd import masked_mean
from ta_opd.objective import slime_weights

seeds = st.integers(0, 2**32 - 1)
NORMALISERS = ("selected", "sample")


def rollout_mean(values, loss_mask, lengths, rollout, rollouts):
    """slime without --calculate-per-token-loss: the mean over rollouts of each one's mean over its masked tokens; every
    sample's own share is divided by its rollout's count, at least 1."""
    total = dict.fromkeys(rollout, 0)
    for g, mask in zip(rollout, split(loss_mask, lengths), strict=True):
        total[g] += sum(map(int, mask))
    losses = [
        math.fsum(v * m for v, m in zip(part, mask, strict=True)) / max(total[g], 1)
        for g, part, mask in zip(rollout, split(values, lengths), split(loss_mask, lengths), strict=True)
    ]
    return math.fsum(losses) / rollouts


def token_mean(values, loss_mask, lengths):
    """slime with --calculate-per-token-loss: the sum over masked tokens / their number, an empty sample counting 1."""
    tokens = sum(max(sum(map(int, mask)), 1) for mask in split(loss_mask, lengths))
    return math.fsum(v * m for v, m in zip(values, loss_mask, strict=True)) / tokens


def split(values, lengths):
    values, parts = list(values), []
    for length in lengths:
        parts.append(values[:length])
        values = values[length:]
    return parts


@st.composite
def batches(draw):
    """Losses, a loss mask, kept tokens inside it, lengths, each sample's rollout; some rollouts are compact."""
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=6))
    rollout = [0]
    for _ in lengths[1:]:
        rollout.append(draw(st.sampled_from([*set(rollout), max(rollout) + 1])))
    generator = torch.Generator().manual_seed(draw(seeds))
    n, share, kept = sum(lengths), draw(st.sampled_from([0.0, 0.5, 1.0])), draw(st.sampled_from([0.0, 0.3, 1.0]))
    loss_mask = torch.rand(n, generator=generator) < share
    keep = loss_mask & (torch.rand(n, generator=generator) < kept)
    return torch.randn(n, generator=generator).tolist(), loss_mask, keep, lengths, rollout


def weights(batch, **settings):
    _, loss_mask, keep, lengths, rollout = batch
    return slime_weights(keep, loss_mask, torch.tensor(lengths), torch.tensor(rollout), **settings)


def kept_mean(losses, keep):
    inside = [x for x, k in zip(losses, keep, strict=True) if k]
    return math.fsum(inside) / max(len(inside), 1)


@given(batch=batches())
def test_under_slimes_rollout_mean_the_weighted_losses_are_the_mean_over_all_selected_tokens(batch):
    losses, loss_mask, keep, lengths, rollout = batch
    weight = weights(batch, normaliser="selected", per_token=False).tolist()
    weighted = [w * x for w, x in zip(weight, losses, strict=True)]
    found = rollout_mean(weighted, loss_mask, lengths, rollout, max(rollout) + 1)
    assert found == pytest.approx(kept_mean(losses, keep), rel=1e-6, abs=1e-6)
    assert found == pytest.approx(masked_mean(torch.tensor(losses), keep).item(), rel=1e-5, abs=1e-6)


@given(batch=batches())
def test_under_slimes_rollout_mean_the_sample_normaliser_is_the_mean_of_each_rollouts_selected_mean(batch):
    losses, loss_mask, keep, lengths, rollout = batch
    weight = weights(batch, normaliser="sample", per_token=False).tolist()
    weighted = [w * x for w, x in zip(weight, losses, strict=True)]
    found = rollout_mean(weighted, loss_mask, lengths, rollout, max(rollout) + 1)
    of_token = [g for g, length in zip(rollout, lengths, strict=True) for _ in range(length)]
    means = [kept_mean(losses, [k and h == g for k, h in zip(keep, of_token, strict=True)]) for g in set(rollout)]
    assert found == pytest.approx(math.fsum(means) / len(means), rel=1e-6, abs=1e-6)
    if len(set(rollout)) == len(rollout):
        expected = masked_mean(torch.tensor(losses), keep, torch.tensor(lengths), normaliser="sample")
        assert found == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)


@given(batch=batches())
def test_under_slimes_token_mean_selected_is_the_mean_over_all_selected_tokens(batch):
    losses, loss_mask, keep, lengths, _ = batch
    weight = weights(batch, normaliser="selected", per_token=True).tolist()
    found = token_mean([w * x for w, x in zip(weight, losses, strict=True)], loss_mask, lengths)
    assert found == pytest.approx(kept_mean(losses, keep), rel=1e-6, abs=1e-6)


@given(batch=batches())
def test_under_slimes_token_mean_sample_is_slimes_own_mean_as_if_every_token_had_the_selected_mean(batch):
    losses, loss_mask, keep, lengths, _ = batch
    assume(bool(keep.any()))
    weight = weights(batch, normaliser="sample", per_token=True).tolist()
    found = token_mean([w * x for w, x in zip(weight, losses, strict=True)], loss_mask, lengths)
    same = token_mean([kept_mean(losses, keep)] * len(losses), loss_mask, lengths)
    assert found == pytest.approx(same, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("per_token", [False, True])
@given(batch=batches())
def test_keeping_every_token_weighs_exactly_one(per_token, batch):
    losses, loss_mask, _, lengths, rollout = batch
    weight = weights((losses, loss_mask, loss_mask, lengths, rollout), normaliser="sample", per_token=per_token)
    assert torch.equal(weight, loss_mask.float())


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("normaliser", NORMALISERS)
@given(batch=batches())
def test_weights_are_finite_and_zero_exactly_where_not_kept(normaliser, per_token, batch):
    weight = weights(batch, normaliser=normaliser, per_token=per_token)
    assert weight.dtype == torch.float32 and weight.shape == batch[2].shape
    assert weight.isfinite().all() and torch.equal(weight > 0, batch[2])


@given(batch=batches())
def test_an_integer_loss_mask_weighs_as_a_boolean_one(batch):
    losses, loss_mask, keep, lengths, rollout = batch
    for normaliser in NORMALISERS:
        for per_token in (False, True):
            settings = {"normaliser": normaliser, "per_token": per_token}
            as_integers = weights((losses, loss_mask.int(), keep, lengths, rollout), **settings)
            assert torch.equal(as_integers, weights(batch, **settings))


def test_two_halves_of_one_rollout_weigh_as_one_whole():
    keep, mask = torch.tensor([True, False, True, True]), torch.ones(4, dtype=torch.bool)
    halves = slime_weights(keep, mask, torch.tensor([1, 3]), torch.tensor([0, 0]), normaliser="sample", per_token=False)
    whole = slime_weights(keep, mask, torch.tensor([4]), torch.tensor([0]), normaliser="sample", per_token=False)
    assert torch.equal(halves, whole) and whole.tolist() == pytest.approx([4 / 3, 0, 4 / 3, 4 / 3])


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_a_batch_without_tokens_has_no_weights(normaliser, lengths):
    nothing = torch.zeros(0, dtype=torch.bool)
    sizes, rollout = torch.tensor(lengths, dtype=torch.long), torch.arange(len(lengths))
    for per_token in (False, True):
        assert len(slime_weights(nothing, nothing, sizes, rollout, normaliser=normaliser, per_token=per_token)) == 0


def test_an_unknown_normaliser_is_refused():
    with pytest.raises(ValueError, match="--opd-normaliser 'token' is not one of selected, sample"):
        weights(([], torch.zeros(0) > 0, torch.zeros(0) > 0, [0], [0]), normaliser="token", per_token=False)
