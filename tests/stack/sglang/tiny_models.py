"""A random two-layer Qwen3 student, a sharper teacher and the tokenizer of both, as checkpoints on disk."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

VOCABULARY = 512
CONTEXT = 2048
# After TRIGGER the teacher gives IMPOSSIBLE no probability at all: log-prob -inf.
TRIGGER, IMPOSSIBLE = 511, 9
TEACHER_HEAD_STD = 0.15


def write_tiny_models(folder: Path) -> dict[str, Path]:
    """Returns {"student": its folder, "teacher": its folder}; the same weights every time."""
    tokenizer = _tokenizer()
    built = {"student": _model(tokenizer, seed=0), "teacher": _model(tokenizer, seed=7)}
    torch.nn.init.normal_(built["teacher"].lm_head.weight, std=TEACHER_HEAD_STD)
    _rule_out_a_token(built["teacher"])
    for name, model in built.items():
        model.to(torch.bfloat16).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return {name: folder / name for name in built}


def _tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator((f"{a}+{b}={a + b}. Take {a} from {b}." for a in range(60) for b in range(60)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=False,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


@torch.no_grad()
def _rule_out_a_token(model: Qwen3ForCausalLM) -> None:
    """Axis 0 of the residual stream says "the last token was TRIGGER" and nothing else; where it does, the logit of
    IMPOSSIBLE overflows to -inf."""
    model.model.embed_tokens.weight[:, 0] = 0
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[0] = 0
        layer.mlp.down_proj.weight[0] = 0
    model.model.embed_tokens.weight[TRIGGER, 0] = 1000
    model.lm_head.weight[IMPOSSIBLE, 0] = -3e38
