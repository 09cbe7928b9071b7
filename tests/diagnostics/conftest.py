"""Models and banks that the tests share; nobody changes them."""

import pytest

from .tiny_pair import TEACHER_VOCABULARY, samples, save_bank, save_model, save_tokenizer


@pytest.fixture(scope="session")
def student(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("student"), seed=1)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Another checkpoint of the student."""
    return save_model(tmp_path_factory.mktemp("trained"), seed=3)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """Its vocabulary is padded further than the student's."""
    return save_model(tmp_path_factory.mktemp("teacher"), seed=2, vocabulary=TEACHER_VOCABULARY)


@pytest.fixture
def bank(tmp_path):
    tokenizer = save_tokenizer(tmp_path / "tokenizer")
    return save_bank(tmp_path / "bank.parquet", samples(), tokenizer)
