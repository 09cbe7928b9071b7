import pytest
import torch
from local_engine.models import (
    STUDENT,
    TEACHER,
    ModelSize,
    build_model,
    encode_prompts,
    encode_solutions,
    train_tokenizer,
)
from local_engine.prompts import Problem
from local_engine.word_problems import generate_problems
from transformers import AutoTokenizer

TINY = ModelSize(hidden=16, layers=1, heads=2, kv_heads=1, intermediate=32)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([p.prompt + "\n" + p.solution for p in generate_problems(300, seed=0)], vocab_size=400)


@pytest.mark.parametrize(
    "text",
    [
        "plain words",
        "日本語 🎉 naïve",
        " two  spaces .  \n\n\ttab",
        "\x00\x7f",
        "<|endoftext|>",
        "e\u0301 \u00e9",
        "don 't , no",
    ],
)
def test_any_text_survives_encode_and_decode(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert not {tokenizer.eos_token_id, tokenizer.pad_token_id} & set(ids)


def test_text_survives_after_saving_and_loading(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("a <|pad|> , b .", "12 + 34 = 46\n"):
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert loaded.decode(loaded(text)["input_ids"]) == text


def test_frequent_words_become_tokens_and_digits_stay_apart(tokenizer):
    assert len(tokenizer) == 400
    assert len(tokenizer(" How many")["input_ids"]) <= 3
    assert len(tokenizer("1234")["input_ids"]) == 4


def test_training_texts_decide_the_vocabulary_and_nothing_else_does():
    texts = ["one two three"] * 3
    assert train_tokenizer(texts, 300).get_vocab() == train_tokenizer(texts, 300).get_vocab()
    assert len(train_tokenizer(["ab"], 1000)) < 300
    with pytest.raises(ValueError, match="--vocab-size 100: a vocabulary must be 258 or more"):
        train_tokenizer(texts, 100)


def test_prompts_end_in_a_newline_and_keep_their_last_tokens(tokenizer):
    [ids] = encode_prompts(tokenizer, ["What is 1 + 2?"], max_tokens=100)
    assert tokenizer.decode(ids) == "What is 1 + 2?\n"
    assert encode_prompts(tokenizer, ["What is 1 + 2?"], max_tokens=5) == [ids[-5:]]


def test_solutions_end_in_eos(tokenizer):
    [ids] = encode_solutions(tokenizer, [Problem("p", "#### 3")])
    assert tokenizer.decode(ids[:-1]) == "#### 3" and ids[-1] == tokenizer.eos_token_id


def test_seed_decides_the_weights_and_the_global_random_state_is_kept(tokenizer):
    before = torch.random.get_rng_state()
    first, again, other = (build_model(TINY, tokenizer, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_models_are_tied_float32_sdpa_qwen3(tokenizer):
    model = build_model(TINY, tokenizer, seed=0)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.config._attn_implementation == "sdpa" and model.config.model_type == "qwen3"
    assert model.config.vocab_size == len(tokenizer) and not model.training


def test_default_teacher_is_larger_than_the_student(tokenizer):
    assert build_model(TEACHER, tokenizer, 0).num_parameters() > 2 * build_model(STUDENT, tokenizer, 0).num_parameters()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layers": 0}, "layers must be >= 1, got 0"),
        ({"hidden": 18}, "hidden must be a multiple of 2 [*] heads = 4, got 18"),
        ({"heads": 4, "kv_heads": 3}, "kv_heads must divide heads = 4, got 3"),
    ],
)
def test_impossible_sizes_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        ModelSize(**{**vars(TINY), **changed})
