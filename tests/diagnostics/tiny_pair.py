"""A student, a teacher and contexts small enough to be scored whole, written as a person's files would be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from fixed_context.context_bank import Sample, build_bank, write_bank
from fixed_context.eval_command import main as eval_main
from fixed_context.schema import read_metrics
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

WORDS = 90
STUDENT_VOCABULARY, TEACHER_VOCABULARY = 96, 112
POSITIONS = 64


def save_tokenizer(folder: Path, names: str = "w") -> PreTrainedTokenizerFast:
    words = {f"{names}{number}": number for number in range(WORDS)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token=f"{names}0")))
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_model(folder: Path, seed: int, vocabulary: int = STUDENT_VOCABULARY, dtype: str = "float32", names: str = "w"):
    """A random Qwen3 whose distributions are sharp enough to differ much; returns its directory."""
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=32,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=False,
        dtype=dtype,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config).to(getattr(torch, dtype)).eval()
        with torch.no_grad():
            model.lm_head.weight.normal_(std=0.6)
    model.save_pretrained(folder)
    save_tokenizer(folder, names)
    return folder


def samples(count: int = 9, seed: int = 0, longest: int = 20) -> list[Sample]:
    """Ragged, the first of one token, some tokens masked, two of each prompt."""
    draw = np.random.default_rng(seed)
    made = []
    for index in range(count):
        if index % 2 == 0:
            prompt = draw.integers(0, WORDS, draw.integers(1, 12)).tolist()
        length = 1 if index == 0 else int(draw.integers(2, longest))
        response = draw.integers(0, WORDS, length).tolist()
        mask = (draw.random(length) < 0.8).astype(int).tolist() if index % 3 == 1 else None
        made.append(Sample(prompt, response, "test", mask, sample_index=index, group_index=index // 2))
    return made


def save_bank(path: Path, made: list[Sample], tokenizer=None) -> Path:
    bank, counts = build_bank(made, None, tokenizer)
    write_bank(path, bank, counts, tokenizer)
    return path


def score(bank: Path, student: Path, teacher: Path, output: Path, *flags: str):
    """The metrics file of a run of the command, which must succeed."""
    assert run(bank, student, teacher, output, *flags) == 0
    return read_metrics(output)


def run(bank: Path, student: Path, teacher: Path, output: Path, *flags: str) -> int:
    given = {"--context-bank": bank, "--student": student, "--teacher": teacher, "--output": output}
    return eval_main([*(str(part) for pair in given.items() for part in pair), *flags])


def masked(made: list[Sample]) -> list[Sample]:
    return [replace(sample, loss_mask=[0] * len(sample.response_tokens)) for sample in made]


def poison(folder: Path, name: str) -> None:
    """Put a NaN into a model's weights."""
    import safetensors.torch

    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    tensors[name].view(-1)[7] = torch.nan
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


def set_config(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
