"""Which rows go through a packed head, and where their logits are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ta_opd.row_packing import NO_ROW, RowPacking


@st.composite
def kept_rows(draw):
    shares = draw(st.sampled_from([1, 2, 3]))
    width = draw(st.integers(1, 6))
    keep = draw(st.lists(st.booleans(), min_size=shares * width, max_size=shares * width))
    return torch.tensor(keep), shares


@given(kept_rows())
def test_what_the_ranks_pick_and_gather_is_every_kept_row_once(drawn):
    keep, shares = drawn
    hidden = torch.arange(len(keep)) + 100
    packing = RowPacking.of(keep, shares)
    picked = [share[packing.of_share(i)] for i, share in enumerate(hidden.chunk(shares))]
    assert len({len(part) for part in picked}) == 1 and len(picked[0]) >= 1
    gathered = torch.cat(picked)
    assert gathered.shape == packing.rows.shape
    real = packing.rows != NO_ROW
    assert torch.equal(gathered[real], hidden[packing.rows[real]])
    assert torch.equal(packing.rows[real], keep.nonzero()[:, 0])


@given(kept_rows())
def test_a_row_finds_its_logits_and_a_row_left_out_finds_none(drawn):
    keep, shares = drawn
    packing = RowPacking.of(keep, shares)
    place = packing.packed(torch.arange(len(keep)))
    assert torch.equal(place != NO_ROW, keep)
    assert torch.equal(packing.rows[place[keep]], keep.nonzero()[:, 0])


@given(kept_rows())
def test_no_share_is_longer_than_the_fullest_needs(drawn):
    keep, shares = drawn
    fullest = max(int(part.sum()) for part in keep.chunk(shares))
    assert len(RowPacking.of(keep, shares).rows) == shares * max(1, fullest)


def test_rows_that_ranks_cannot_share_evenly_are_an_invariant():
    with pytest.raises(AssertionError, match="5 rows are not spread evenly over 2 ranks"):
        RowPacking.of(torch.ones(5, dtype=torch.bool), 2)
