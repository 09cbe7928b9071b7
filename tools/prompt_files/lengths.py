"""How many tokens a prompt is, counted as slime counts before it leaves long ones out."""

from __future__ import annotations

from collections.abc import Sequence

from .records import Message

_AT_A_TIME = 1000


def token_counts(prompts: Sequence[str | list[Message]], tokenizer_name: str) -> list[int]:
    """In the tokenizer's chat template, if it has one, with the generation prompt; else of the text alone.

    Raises ValueError for a tokenizer that cannot be loaded, or messages that it has no template for.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_name)
    except (OSError, ValueError) as error:
        raise ValueError(f"--tokenizer {tokenizer_name}: {' '.join(str(error).split())}") from error

    def rendered(prompt: str | list[Message]) -> str:
        if tokenizer.chat_template is None:
            if isinstance(prompt, list):
                raise ValueError(f"--tokenizer {tokenizer_name} has no chat template, and the prompts are messages")
            return prompt
        messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    counts: list[int] = []
    for start in range(0, len(prompts), _AT_A_TIME):
        texts = [rendered(prompt) for prompt in prompts[start : start + _AT_A_TIME]]
        counts += [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    return counts
