"""Tokenizer and toy Qwen3 models of the embedded engine."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from .prompts import Problem

EOS, PAD = "<|endoftext|>", "<|pad|>"
SMALLEST_VOCABULARY = 256 + 2  # every byte, eos, pad


@dataclass(frozen=True)
class ModelSize:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"model size: {name} must be >= 1, got {value}")
        if self.hidden % (2 * self.heads):
            raise ValueError(
                f"model size: hidden must be a multiple of 2 * heads = {2 * self.heads}, got {self.hidden}"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"model size: kv_heads must divide heads = {self.heads}, got {self.kv_heads}")


TEACHER = ModelSize(hidden=128, layers=2, heads=4, kv_heads=2, intermediate=384)
STUDENT = ModelSize(hidden=64, layers=2, heads=4, kv_heads=2, intermediate=192)


def quiet_transformers() -> None:
    """No progress bars or notices of transformers' own; each process has to say so for itself."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with at most vocab_size tokens (fewer when the texts are short), eos and pad among them.

    Any text survives encode and decode: every byte is a token, nothing is normalised, and the names of
    special tokens inside a text are read as plain characters. Every digit is a token, as in Qwen's tokenizers.

    Raises ValueError when vocab_size < 258.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise ValueError(f"--vocab-size {vocab_size}: a vocabulary must be {SMALLEST_VOCABULARY} or more")
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=EOS,
        pad_token=PAD,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )


def encode_prompts(tokenizer: PreTrainedTokenizerFast, prompts: list[str], max_tokens: int) -> list[list[int]]:
    """Ids of each prompt and the newline that ends it; of a longer prompt, its last max_tokens ids.

    The end is kept because the question stands there.
    """
    return [ids[-max_tokens:] for ids in tokenizer([prompt + "\n" for prompt in prompts])["input_ids"]]


def encode_solutions(
    tokenizer: PreTrainedTokenizerFast, problems: list[Problem], max_tokens: int | None = None
) -> list[list[int]]:
    """Ids of each solution, then eos; of a longer solution, its first max_tokens ids and no eos."""
    texts = [problem.solution for problem in problems]
    return [[*ids, tokenizer.eos_token_id][:max_tokens] for ids in tokenizer(texts)["input_ids"]]


def build_model(size: ModelSize, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A float32 Qwen3 with tied embeddings in eval mode; a pure function of its arguments.

    The global random state is the same afterwards.
    """
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.hidden // size.heads,
        intermediate_size=size.intermediate,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
        dtype="float32",
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config).eval()
