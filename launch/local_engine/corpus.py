"""The problems in token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from .models import encode_prompts, encode_solutions
from .prompts import Problem


@dataclass(frozen=True)
class Corpus:
    """Problems to train on and held-out ones, which share no prompt; prompts and solutions as ids."""

    tokenizer: PreTrainedTokenizerFast
    train: Sequence[Problem]
    held_out: Sequence[Problem]
    train_prompts: list[list[int]]
    train_solutions: list[list[int]]
    held_out_prompts: list[list[int]]
    held_out_solutions: list[list[int]]

    @staticmethod
    def encode(
        tokenizer: PreTrainedTokenizerFast,
        train: Sequence[Problem],
        held_out: Sequence[Problem],
        max_prompt_tokens: int,
        max_solution_tokens: int,
    ) -> Corpus:
        return Corpus(
            tokenizer,
            train,
            held_out,
            encode_prompts(tokenizer, [problem.prompt for problem in train], max_prompt_tokens),
            encode_solutions(tokenizer, train, max_solution_tokens),
            encode_prompts(tokenizer, [problem.prompt for problem in held_out], max_prompt_tokens),
            encode_solutions(tokenizer, held_out, max_solution_tokens),
        )
