import copy

import pytest
import torch
from local_engine.frozen import FrozenContexts
from local_engine.rollout import sample


@pytest.fixture
def responses(corpus, student, tiny):
    config = student.config
    return sample(
        student, range(8), corpus.held_out_prompts, tiny.max_new_tokens, 0, config.eos_token_id, config.pad_token_id
    )


@pytest.fixture
def frozen(responses, student, teacher):
    return FrozenContexts.build(
        responses, student, teacher, k=8, variant="paper", micro_batch=3, clusters=[0, 0, *range(6)]
    )


def test_an_unchanged_student_gains_exactly_nothing(frozen, student):
    after = frozen.distances(copy.deepcopy(student))
    assert torch.equal(after.forward, frozen.before.forward)
    assert torch.equal(after.reverse, frozen.before.reverse)


def test_a_student_that_is_the_teacher_gains_the_whole_distance(frozen, teacher):
    after = frozen.distances(teacher)
    assert after.forward.abs().max() < 1e-5
    assert (frozen.before.forward - after.forward).mean() == pytest.approx(
        float(frozen.before.forward.mean()), rel=1e-4
    )


def test_distances_are_the_full_vocabulary_divergences_token_by_token(frozen, responses, student, teacher):
    row = 0
    for prompt, response in zip(responses.prompt_ids, responses.response_ids, strict=True):
        for length in range(len(response)):
            ids = torch.tensor([[*prompt, *response[:length]]])
            with torch.no_grad():
                p = torch.softmax(teacher(ids).logits[0, -1].double(), -1)
                q = torch.softmax(student(ids).logits[0, -1].double(), -1)
            assert float(frozen.before.forward[row]) == pytest.approx(float((p * (p / q).log()).sum()), abs=2e-5)
            assert float(frozen.before.reverse[row]) == pytest.approx(float((q * (q / p).log()).sum()), abs=2e-5)
            row += 1
    assert row == len(frozen.before.forward)


def test_the_cluster_of_a_token_is_its_responses(frozen, responses):
    expected = [c for c, ids in zip([0, 0, *range(6)], responses.response_ids, strict=True) for _ in ids]
    assert frozen.prompt.tolist() == expected


def test_scores_and_sampled_log_probs_belong_to_the_sampled_tokens(frozen, responses, student):
    ids = torch.tensor([[*responses.prompt_ids[0], *responses.response_ids[0]]])
    with torch.no_grad():
        logprobs = torch.log_softmax(student(ids).logits[0], -1)
    start = len(responses.prompt_ids[0])
    for offset, token in enumerate(responses.response_ids[0]):
        assert float(frozen.scored.student_logprob[offset]) == pytest.approx(
            float(logprobs[start + offset - 1, token]), abs=1e-5
        )
