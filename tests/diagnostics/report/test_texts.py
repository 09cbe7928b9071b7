"""Token ids as text: tokenizer.json alone, and through transformers where there is none, say the same."""

import pytest
from fixed_context.report import texts
from fixed_context.report.texts import token_texts
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from .report_files import metrics_frame, source_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A byte-level tokenizer with a special token, and with half of a character as a token of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|end|>": 0} | {sign: place + 1 for place, sign in enumerate(alphabet)}
    built = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    built.pre_tokenizer, built.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    path = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<|end|>").save_pretrained(path)
    return path


def test_tokenizer_json_reads_as_transformers_does(folder):
    source = source_of(metrics_frame())
    text_of, told = token_texts(source, str(folder))
    loaded = PreTrainedTokenizerFast.from_pretrained(folder)
    assert told == ""
    expected = [texts._text(lambda i: loaded.decode([i]), loaded.convert_ids_to_tokens, i) for i in range(257)]
    assert [text_of(token) for token in range(257)] == expected
    assert text_of(0) == "<|end|>"
    assert text_of(100_000) == "#100000"
    assert all("\ufffd" not in text for text in expected)


def test_a_tokenizer_json_that_is_cut_is_one_line(folder, tmp_path):
    (tmp_path / "tokenizer.json").write_text((folder / "tokenizer.json").read_text()[:-20])
    with pytest.raises(ValueError, match=r"--tokenizer .*tokenizer.json is no JSON"):
        token_texts(source_of(metrics_frame()), str(tmp_path))
