"""A tiny teacher, student and corpus, built once: untrained models are as good as any for what must always hold."""

import pytest
from local_engine.corpus import Corpus
from local_engine.defaults import EngineDefaults
from local_engine.models import ModelSize, build_model, train_tokenizer
from local_engine.prompts import split_problems
from local_engine.word_problems import generate_problems

TINY = EngineDefaults(
    problems=60,
    held_out_problems=8,
    max_prompt_tokens=60,
    vocab_size=300,
    teacher=ModelSize(hidden=32, layers=2, heads=2, kv_heads=1, intermediate=64),
    student=ModelSize(hidden=16, layers=1, heads=2, kv_heads=1, intermediate=32),
    steps=3,
    responses_per_step=6,
    max_new_tokens=10,
    frozen_contexts=8,
)


@pytest.fixture(scope="session")
def tiny():
    return TINY


@pytest.fixture(scope="session")
def corpus():
    train, held_out = split_problems(generate_problems(TINY.problems, seed=0), TINY.held_out_problems, seed=0)
    tokenizer = train_tokenizer([f"{p.prompt}\n{p.solution}" for p in train], TINY.vocab_size)
    return Corpus.encode(tokenizer, train, held_out, TINY.max_prompt_tokens, TINY.max_solution_tokens)


@pytest.fixture(scope="session")
def teacher(corpus):
    return build_model(TINY.teacher, corpus.tokenizer, seed=0)


@pytest.fixture
def student(corpus):
    return build_model(TINY.student, corpus.tokenizer, seed=1)
