import pytest
import torch
from local_engine import sampling
from local_engine.models import ModelSize, build_model, train_tokenizer
from local_engine.sampling import response_logits, sample_responses

PROMPTS = [[5, 9, 40, 41, 7, 7, 30], [12], [100, 101, 102], [8, 8, 8, 8, 8]]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["one two three four"] * 5, vocab_size=260)


@pytest.fixture(scope="module")
def model(tokenizer):
    """Random weights, large enough that the next token depends on the context."""
    model = build_model(ModelSize(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=64), tokenizer, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(12)
    return model


def sample(model, prompts=PROMPTS, max_new_tokens=12, seed=0, eos_id=-1, **options):
    generator = torch.Generator().manual_seed(seed)
    return sample_responses(model, prompts, max_new_tokens, generator=generator, eos_id=eos_id, pad_id=1, **options)


def plain_logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def test_cached_logits_match_a_plain_forward_of_each_sequence_alone(model, monkeypatch):
    seen = []
    softmax = torch.softmax
    monkeypatch.setattr(sampling.torch, "softmax", lambda x, dim: seen.append(x) or softmax(x, dim))
    responses = sample(model)
    cached = torch.stack(seen, dim=1)
    assert cached.shape == (4, 12, model.config.vocab_size)
    for row, prompt, response in zip(cached, PROMPTS, responses, strict=True):
        expected = plain_logits(model, prompt + response)[len(prompt) - 1 : -1]
        assert expected.std() > 1
        torch.testing.assert_close(row, expected, atol=1e-4, rtol=1e-4)


def test_response_logits_match_a_plain_forward_of_each_sequence_alone(model):
    sequences = [[3, 4, 5, 6, 7], [9, 10], [11, 12, 13]]
    lens = [2, 1, 3]
    packed = response_logits(model, sequences, lens)
    expected = [plain_logits(model, ids)[n - 1 : len(ids) - 1] for ids, n in zip(sequences, lens, strict=True)]
    assert packed.dtype == torch.float32 and [len(rows) for rows in expected] == [3, 1, 0]
    torch.testing.assert_close(packed, torch.cat(expected), atol=1e-4, rtol=1e-4)


def test_gradients_reach_the_model_and_padding_adds_none(model):
    alone, together = (
        torch.autograd.grad(response_logits(model, batch, lens)[:3].logsumexp(-1).sum(), list(model.parameters()))
        for batch, lens in (([[3, 4, 5, 6]], [1]), ([[3, 4, 5, 6], list(range(20, 40))], [1, 4]))
    )
    for a, b in zip(alone, together, strict=True):
        assert a.abs().max() > 0
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_only_response_rows_go_through_the_lm_head(model):
    rows = []
    hook = model.lm_head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[0]))
    response_logits(model, [list(range(50, 90)), [3, 4]], [38, 1])
    hook.remove()
    assert rows == [3]


def test_seed_decides_and_global_random_state_is_neither_read_nor_changed(model):
    torch.manual_seed(1)
    first = sample(model, seed=7)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert sample(model, seed=7) == first
    assert torch.equal(torch.random.get_rng_state(), before)
    assert sample(model, seed=8) != first


def test_responses_stop_at_their_own_eos_and_others_run_on(model):
    free = sample(model)
    eos = free[1][4]
    stopped = sample(model, eos_id=eos)
    for full, cut in zip(free, stopped, strict=True):
        assert cut == (full[: full.index(eos) + 1] if eos in full else full)
    assert len({len(response) for response in stopped}) > 1


def test_sampling_stops_when_all_have_ended(model):
    eos = sample(model, prompts=[PROMPTS[0]])[0][3]
    calls = []
    hook = model.lm_head.register_forward_pre_hook(lambda *_: calls.append(1))
    [response] = sample(model, prompts=[PROMPTS[0]], eos_id=eos)
    hook.remove()
    assert response[-1] == eos and len(calls) == len(response) <= 4


def test_draws_follow_the_model_at_the_asked_temperature(model):
    prompt, count = [12, 13], 4000
    for temperature in (1.0, 2.5):
        drawn = [r[0] for r in sample(model, [prompt] * count, 1, temperature=temperature)]
        expected = torch.softmax(plain_logits(model, prompt)[-1] / temperature, -1)
        observed = torch.bincount(torch.tensor(drawn), minlength=len(expected)) / count
        distance = 0.5 * (observed - expected).abs().sum()
        assert distance < 0.12
    greedy = sample(model, [prompt], 1, temperature=1e-3)
    assert greedy == [[int(expected.argmax())]]


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([[3], []], {}, "at least one token"),
        ([], {}, "at least one token"),
        ([[3]], {"max_new_tokens": 0}, "max_new_tokens must be >= 1, got 0"),
        ([[3]], {"temperature": 0.0}, "temperature must be > 0, got 0"),
        ([[3]], {"temperature": float("nan")}, "temperature must be > 0, got nan"),
    ],
)
def test_impossible_requests_are_refused(model, prompts, options, message):
    with pytest.raises(ValueError, match=message):
        sample(model, prompts, **options)


@pytest.mark.parametrize(("lens", "message"), [([0], "got 0"), ([4], r"\[1, 3\]"), ([1, 1], "1 sequences and 2")])
def test_prompt_lengths_that_do_not_fit_are_refused(model, lens, message):
    with pytest.raises(ValueError, match=message):
        response_logits(model, [[3, 4, 5]], lens)
