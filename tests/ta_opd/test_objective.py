import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ta_opd import masked_mean

seeds = st.integers(0, 2**32 - 1)
sample_lengths = st.lists(st.integers(0, 9), min_size=1, max_size=6)


def batch(seed, lengths, share=0.6):
    generator = torch.Generator().manual_seed(seed)
    n = sum(lengths)
    losses = torch.randn(n, generator=generator)
    return losses, torch.rand(n, generator=generator) < share, torch.tensor(lengths, dtype=torch.long)


def reference_mean(losses, keep, lengths, normaliser):
    losses, keep = losses.tolist(), keep.tolist()
    if normaliser == "selected":
        chosen = [x for x, k in zip(losses, keep, strict=True) if k]
        return sum(chosen) / max(len(chosen), 1)
    total, start = 0.0, 0
    for length in lengths.tolist():
        chosen = [losses[i] for i in range(start, start + length) if keep[i]]
        total += sum(chosen) / max(len(chosen), 1)
        start += length
    return total / len(lengths)


@pytest.mark.parametrize("normaliser", ["selected", "sample"])
@given(seed=seeds, lengths=sample_lengths)
def test_the_mean_and_its_gradient_match_the_definition(normaliser, seed, lengths):
    losses, keep, lengths = batch(seed, lengths)
    losses.requires_grad_()
    value = masked_mean(losses, keep, lengths, normaliser=normaliser)
    assert value.item() == pytest.approx(reference_mean(losses, keep, lengths, normaliser), rel=1e-5, abs=1e-6)
    value.backward()
    weights = torch.zeros(len(losses), dtype=torch.float64)
    start = 0
    for length in lengths.tolist():
        inside = slice(start, start + length)
        share = keep.sum() if normaliser == "selected" else keep[inside].sum() * len(lengths)
        weights[inside] = keep[inside].double() / max(int(share), 1)
        start += length
    torch.testing.assert_close(losses.grad.double(), weights, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("normaliser", ["selected", "sample"])
def test_gradcheck_in_float64(normaliser):
    losses, keep, lengths = batch(1, [3, 0, 4])
    losses = losses.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: masked_mean(x, keep, lengths, normaliser=normaliser), (losses,))


@pytest.mark.parametrize("normaliser", ["selected", "sample"])
@pytest.mark.parametrize("lengths", [[3, 2], [0, 0], []])
def test_an_empty_selection_is_zero_and_can_be_back_propagated(normaliser, lengths):
    losses, _, lengths = batch(0, lengths)
    losses.requires_grad_()
    value = masked_mean(losses, torch.zeros(len(losses), dtype=torch.bool), lengths, normaliser=normaliser)
    assert value.item() == 0
    value.backward()
    assert torch.equal(losses.grad, torch.zeros_like(losses))


@pytest.mark.parametrize("normaliser", ["selected", "sample"])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_what_is_not_kept_stays_out_of_the_value_and_the_gradient(normaliser, poison):
    losses, keep, lengths = batch(2, [4, 5])
    clean = masked_mean(losses, keep, lengths, normaliser=normaliser)
    dirty = losses.masked_fill(~keep, poison).requires_grad_()
    value = masked_mean(dirty, keep, lengths, normaliser=normaliser)
    assert value.item() == clean.item()
    value.backward()
    assert dirty.grad.isfinite().all() and not dirty.grad[~keep].any()


@given(seed=seeds, lengths=st.lists(st.integers(0, 9), min_size=2, max_size=6), data=st.data())
def test_micro_batches_with_the_global_count_add_up_to_the_whole(seed, lengths, data):
    cut = data.draw(st.integers(0, len(lengths)))
    losses, keep, whole = batch(seed, lengths)
    tokens = sum(lengths[:cut])
    for normaliser, denominator in (("selected", int(keep.sum())), ("sample", len(lengths))):
        parts = [
            masked_mean(losses[part], keep[part], whole[samples], normaliser=normaliser, denominator=denominator)
            for part, samples in ((slice(0, tokens), slice(0, cut)), (slice(tokens, None), slice(cut, None)))
        ]
        expected = masked_mean(losses, keep, whole, normaliser=normaliser)
        assert sum(parts).item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)


def test_the_two_normalisers_weigh_a_short_sample_differently():
    losses = torch.tensor([1.0, 2.0, 2.0, 2.0])
    everything, lengths = torch.ones(4, dtype=torch.bool), torch.tensor([1, 3])
    assert masked_mean(losses, everything).item() == 1.75
    assert masked_mean(losses, everything, lengths, normaliser="sample").item() == pytest.approx(1.5)


def test_what_is_not_a_mask_or_not_known_is_refused():
    losses, keep, lengths = batch(0, [3])
    with pytest.raises(ValueError, match="bool"):
        masked_mean(losses, torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="--opd-normaliser 'token' is not one of selected, sample"):
        masked_mean(losses, keep, lengths, normaliser="token")
    with pytest.raises(ValueError, match="needs the lengths"):
        masked_mean(losses, keep, normaliser="sample")
