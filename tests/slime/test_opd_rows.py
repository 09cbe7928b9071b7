"""Which rows of packed logits belong to which response tokens, and what is held of them."""

import gc
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slime.backends.megatron_utils.opd_rows import (
    Layout,
    TokenRows,
    find_places,
    held,
    hold,
    joined,
    lists_over_rows,
    over_rows,
)
from ta_opd.support import NO_TOKEN, TopK

samples = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 12)), min_size=1, max_size=4)
CPU = torch.device("cpu")


def packed_positions(lengths, layout):
    """(sample, position) of each row that a rank holds, (-1, -1) in padding: slime's packing, token by token."""
    whole = [[(s, p) for p in range(prompt + response)] for s, (prompt, response) in enumerate(lengths)]
    if layout.gathered:
        flat = list(itertools.chain(*whole))
        flat += [(-1, -1)] * (-len(flat) % (8 * layout.size))
        share = len(flat) // layout.size
        return flat[layout.rank * share :][:share]
    rows = []
    for tokens in whole:
        if layout.size > 1:
            tokens = tokens + [(-1, -1)] * (-len(tokens) % (2 * layout.size))
            chunk = len(tokens) // (2 * layout.size)
            back = 2 * layout.size - 1 - layout.rank
            tokens = tokens[layout.rank * chunk :][:chunk] + tokens[back * chunk :][:chunk]
        rows += tokens
    return rows + [(-1, -1)] * (-len(rows) % 8)


layouts = st.sampled_from(
    [Layout()] + [Layout(r, n, gathered) for n in (2, 3) for r in range(n) for gathered in (False, True)]
)


@given(lengths=samples, layout=layouts)
def test_each_row_predicts_the_token_after_its_own(lengths, layout):
    rows = packed_positions(lengths, layout)
    places = find_places([p + r for p, r in lengths], [r for _, r in lengths], layout, len(rows))
    found = [(s, int(token)) for s, tokens in enumerate(places.token) for token in tokens]
    expected = [
        (s, position + 1 - lengths[s][0])
        for s, position in rows
        if s >= 0 and lengths[s][0] - 1 <= position < sum(lengths[s]) - 1
    ]
    assert sorted(found) == sorted(expected)
    predicted = [rows[row] for row in places.row.tolist()]
    assert predicted == [(s, lengths[s][0] - 1 + token) for s, token in found]


@given(lengths=samples, size=st.sampled_from([2, 3]), gathered=st.booleans())
def test_the_ranks_of_a_context_parallel_group_hold_every_token_once(lengths, size, gathered):
    counted = {}
    for rank in range(size):
        layout = Layout(rank, size, gathered)
        count = len(packed_positions(lengths, layout))
        places = find_places([p + r for p, r in lengths], [r for _, r in lengths], layout, count)
        for s, tokens in enumerate(places.token):
            for token in tokens.tolist():
                counted[s, token] = counted.get((s, token), 0) + 1
    assert counted == {(s, token): 1 for s, (_, response) in enumerate(lengths) for token in range(response)}


@given(lengths=samples, layout=layouts)
def test_whole_samples_and_a_ranks_share_of_them_give_the_same_rows(lengths, layout):
    count = len(packed_positions(lengths, layout))
    places = find_places([p + r for p, r in lengths], [r for _, r in lengths], layout, count)
    whole = [torch.rand(r, 2) for _, r in lengths]
    share = [part[token] for part, token in zip(whole, places.token, strict=True)]
    assert torch.equal(joined(whole, places, CPU), joined(share, places, CPU))
    spread = over_rows(joined(whole, places, CPU), places, count, -3.0)
    assert torch.equal(spread[places.row], torch.cat(share))
    assert int((spread != -3).any(1).sum()) == len(places.row)


def test_rows_that_predict_nothing_have_empty_lists():
    places = find_places([5], [2], Layout(), 8)
    lists = lists_over_rows([TopK(torch.ones(2, 3, dtype=torch.int32), torch.zeros(2, 3))], places, 8, CPU)
    assert lists.ids.dtype == torch.int32
    assert (lists.ids[:, 0] == NO_TOKEN).tolist() == [True, True, False, False, True, True, True, True]
    assert (lists.logprobs[:, 0] == -torch.inf).tolist() == (lists.ids[:, 0] == NO_TOKEN).tolist()


def test_what_is_held_of_a_sample_goes_with_its_tokens():
    from slime.backends.megatron_utils import opd_rows

    tokens, rows = [torch.arange(3), torch.arange(3)], [TokenRows(torch.zeros(1)), TokenRows(torch.ones(1))]
    before = len(opd_rows._ROWS)
    hold(tokens, rows)
    assert held(tokens[::-1]) == rows[::-1]
    hold(tokens[:1], rows[1:])
    assert held(tokens)[0] is rows[1]
    del tokens
    gc.collect()
    assert len(opd_rows._ROWS) == before


def test_samples_that_the_hooks_never_saw_are_refused():
    with pytest.raises(RuntimeError, match="all three trainer hooks are needed"):
        held([torch.arange(3)])
