import copy
import io
import math

import pytest
import torch
from local_engine.models import ModelSize, build_model, encode_prompts, encode_solutions, train_tokenizer
from local_engine.pretraining import Pretrainer, solution_loss
from local_engine.word_problems import generate_problems

SIZE = ModelSize(hidden=32, layers=1, heads=2, kv_heads=1, intermediate=64)


@pytest.fixture(scope="module")
def corpus():
    problems = generate_problems(200, seed=0)
    tokenizer = train_tokenizer([p.prompt + "\n" + p.solution for p in problems], vocab_size=320)
    prompts = encode_prompts(tokenizer, [p.prompt for p in problems], max_tokens=100)
    return tokenizer, prompts, encode_solutions(tokenizer, problems)


@pytest.fixture
def new(corpus):
    tokenizer, prompts, solutions = corpus
    documents = [p + s for p, s in zip(prompts, solutions, strict=True)]

    def new_pretrainer(**changes):
        options = {
            "steps": 30,
            "batch_size": 4,
            "seq_len": 96,
            "lr": 1e-2,
            "weight_decay": 0.1,
            "betas": (0.9, 0.95),
            "grad_clip": 1.0,
            "warmup_steps": 5,
            "seed": 0,
        }
        options |= {"documents": documents} | changes
        return Pretrainer(build_model(SIZE, tokenizer, seed=0), **options)

    return new_pretrainer


def run(pretrainer, start, stop):
    return [pretrainer.step(i) for i in range(start, stop)]


def test_a_resumed_run_equals_one_that_never_stopped(new):
    whole = new()
    losses = run(whole, 0, 8)

    first = new()
    run(first, 0, 5)
    saved = io.BytesIO()
    torch.save(first.state_dict(), saved)
    saved.seek(0)
    resumed = new()
    resumed.load_state_dict(torch.load(saved))
    torch.manual_seed(99)
    assert run(resumed, resumed.completed_steps, 8) == losses[5:]
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_batches_depend_on_seed_and_step_and_nothing_else(new):
    first, second = new(), new()
    run(second, 0, 2)
    assert torch.equal(first.batch_at(7), second.batch_at(7))
    assert not torch.equal(first.batch_at(7), first.batch_at(8))
    assert not torch.equal(first.batch_at(7), new(seed=1).batch_at(7))


def test_rows_start_with_a_whole_document_and_are_full(new, corpus):
    _, prompts, solutions = corpus
    pretrainer = new(seq_len=200)
    batch = pretrainer.batch_at(0)
    documents = {tuple(p + s) for p, s in zip(prompts, solutions, strict=True)}
    assert batch.shape == (4, 200)
    eos = solutions[0][-1]
    for row in batch.tolist():
        assert tuple(row[: row.index(eos) + 1]) in documents


def test_training_brings_the_loss_on_solutions_well_below_a_uniform_guess(new, corpus):
    tokenizer, prompts, solutions = corpus
    pretrainer = new()
    before = solution_loss(pretrainer.model, prompts[:20], solutions[:20])
    assert before == pytest.approx(math.log(len(tokenizer)), rel=0.05)
    losses = run(pretrainer, 0, 30)
    assert losses[0] == pytest.approx(math.log(len(tokenizer)), rel=0.05)
    assert solution_loss(pretrainer.model, prompts[:20], solutions[:20]) < 0.75 * before


def test_first_loss_is_the_mean_next_token_loss_of_its_batch(new):
    pretrainer = new()
    model, batch = copy.deepcopy(pretrainer.model), pretrainer.batch_at(0)
    expected = model(batch, labels=batch).loss.item()
    assert pretrainer.step(0) == pytest.approx(expected, rel=1e-5)


def test_solution_loss_counts_solution_tokens_once_whatever_the_batch_size(new, corpus):
    _, prompts, solutions = corpus
    model = new().model
    total = count = 0
    for prompt, solution in zip(prompts[:7], solutions[:7], strict=True):
        ids = torch.tensor([prompt + solution])
        labels = ids.clone()
        labels[:, : len(prompt)] = -100
        with torch.no_grad():
            total += model(ids, labels=labels).loss.item() * len(solution)
        count += len(solution)
    for batch_size in (1, 3, 32):
        value = solution_loss(model, prompts[:7], solutions[:7], batch_size)
        assert value == pytest.approx(total / count, rel=1e-5)


def test_learning_rate_warms_up_peaks_and_ends_at_a_tenth(new):
    pretrainer = new()
    rates = [pretrainer.lr_at(i) for i in range(31)]
    assert rates[:5] == pytest.approx([2e-3, 4e-3, 6e-3, 8e-3, 1e-2])
    assert rates[5] == pytest.approx(1e-2) and rates[30] == pytest.approx(1e-3)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    pretrainer.step(0)
    assert {group["lr"] for group in pretrainer.optimizer.param_groups} == {rates[0]}


def test_steps_out_of_order_are_refused(new):
    pretrainer = new()
    with pytest.raises(ValueError, match="must be 0, the next one, got 3"):
        pretrainer.step(3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"seq_len": 1}, "seq_len must be >= 2, got 1"),
        ({"warmup_steps": -1}, "warmup_steps must be >= 0, got -1"),
    ],
)
def test_impossible_counts_are_refused(new, changes, message):
    with pytest.raises(ValueError, match=message):
        new(**changes)


def test_no_documents_and_no_solution_tokens_are_refused(corpus):
    model = build_model(SIZE, corpus[0], seed=0)
    with pytest.raises(ValueError, match="at least one document"):
        Pretrainer(
            model,
            [],
            steps=1,
            batch_size=1,
            seq_len=8,
            lr=1e-3,
            weight_decay=0.0,
            betas=(0.9, 0.95),
            grad_clip=1.0,
            warmup_steps=0,
            seed=0,
        )
    with pytest.raises(ValueError, match="at least one solution token"):
        solution_loss(model, [], [])
