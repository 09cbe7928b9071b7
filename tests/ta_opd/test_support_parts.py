import dataclasses

import pytest
import torch
from ta_opd import Supports, TopK, token_scores
from ta_opd.scores import SCORES
from ta_opd.support_parts import count_rows, row_blocks

VOCABULARY, K = 40, 5


def supports(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z_s, z_t = (2 * torch.randn(n, VOCABULARY, generator=generator) for _ in range(2))
    return Supports.from_logits(z_s, z_t, K)


def cut(whole, lengths):
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return [whole.rows(slice(end - length, end)) for end, length in zip(ends, lengths, strict=True)]


@pytest.mark.parametrize("size", [1, 4, 7, 30, 100])
@pytest.mark.parametrize("lengths", [(30,), (7, 23), (0, 1, 29, 0), (1,) * 30])
def test_blocks_cover_the_samples_in_order_and_only_the_last_is_short(lengths, size):
    whole = supports(30)
    parts = cut(whole, lengths)
    assert count_rows(parts) == count_rows(whole) == 30
    start = 0
    for rows, block in row_blocks(parts, size):
        assert (rows.start, len(block)) == (start, min(size, 30 - start))
        assert torch.equal(block.student.ids, whole.student.ids[rows])
        assert torch.equal(block.teacher.logprobs, whole.teacher.logprobs[rows])
        assert torch.equal(block.teacher_on_student, whole.teacher_on_student[rows])
        start = rows.stop
    assert start == 30


def test_a_block_within_one_sample_is_not_copied():
    whole = supports(30)
    blocks = [block for _, block in row_blocks([whole], 8)]
    inside = whole.teacher.logprobs.untyped_storage().data_ptr()
    assert all(block.teacher.logprobs.untyped_storage().data_ptr() == inside for block in blocks)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("lengths", [(9000,), (8192, 808), (5000, 0, 4000), (90,) * 100])
def test_scores_of_samples_are_those_of_the_batch_to_the_last_bit(lengths, variant):
    whole = supports(9000)
    expected, scores = token_scores(whole, variant), token_scores(cut(whole, lengths), variant)
    for name in SCORES:
        assert torch.equal(getattr(scores, name), getattr(expected, name)), name


def test_no_sample_has_no_score():
    assert len(token_scores([])) == 0


def test_samples_that_differ_in_what_is_known_are_refused():
    a, b = cut(supports(4), (2, 2))
    with pytest.raises(ValueError, match="must agree"):
        token_scores([a, dataclasses.replace(b, reverse_kl=None)])
    with pytest.raises(ValueError, match="must agree"):
        token_scores([a, dataclasses.replace(a, teacher=TopK.missing(2, K - 1), student_on_teacher=None)])
