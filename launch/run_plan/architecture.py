"""A dense decoder's sizes from Megatron's flags, and how many parameters that makes, in all and on one GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PADDING = 128
"""Megatron pads the vocabulary to a multiple of this x tensor parallel size (--make-vocab-size-divisible-by)."""

_SWITCHES = {
    "--swiglu",
    "--group-query-attention",
    "--use-rotary-position-embeddings",
    "--disable-bias-linear",
    "--add-qkv-bias",
    "--qk-layernorm",
    "--untie-embeddings-and-output-weights",
    "--use-rope-scaling",
    "--no-rope-fusion",
    "--rotary-interleaved",
}
_NUMBERS = {
    "--num-layers": "layers",
    "--hidden-size": "hidden",
    "--ffn-hidden-size": "ffn",
    "--num-attention-heads": "heads",
    "--num-query-groups": "groups",
    "--kv-channels": "channels",
    "--vocab-size": "vocabulary",
}
_NO_PARAMETERS = {
    "--norm-epsilon",
    "--rotary-base",
    "--rotary-percent",
    "--rotary-scaling-factor",
    "--rope-scaling-factor",
    "--max-position-embeddings",
    "--position-embedding-type",
}


@dataclass(frozen=True)
class Architecture:
    """Sizes of the model. ffn: width of the MLP. groups: key-value heads. channels: of one head."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    groups: int
    channels: int
    vocabulary: int
    gated: bool
    tied: bool
    qkv_bias: bool
    linear_bias: bool
    qk_norm: bool

    def padded_vocabulary(self, tensor: int) -> int:
        step = PADDING * tensor
        return -(-self.vocabulary // step) * step

    def layer_parameters(self, tensor: int = 1) -> int:
        """Parameters of a layer on one of `tensor` ranks: attention and MLP split, norms on each."""
        q, kv = self.heads * self.channels, 2 * self.groups * self.channels
        attention = self.hidden * (q + kv) + q * self.hidden
        up = self.ffn * (2 if self.gated else 1)
        mlp = self.hidden * up + self.ffn * self.hidden
        bias = (q + kv) if self.qkv_bias or self.linear_bias else 0
        bias += up if self.linear_bias else 0
        whole = (
            2 * self.hidden + (2 * self.channels if self.qk_norm else 0) + (2 * self.hidden if self.linear_bias else 0)
        )
        return (attention + mlp + bias) // tensor + whole

    def parameters(self) -> int:
        """Of the model as published: the vocabulary as the script gives it, tied embeddings once."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * self.layer_parameters() + self.hidden + embeddings

    def on_one_gpu(self, tensor: int, pipeline: int) -> int:
        """Parameters on the fullest GPU. With several pipeline stages that is the last: it holds the head, which is a
        copy of the embeddings where they are tied, and the final norm."""
        embedding = self.padded_vocabulary(tensor) // tensor * self.hidden
        stage = self.layers // pipeline * self.layer_parameters(tensor)
        if pipeline == 1:
            return stage + self.hidden + embedding * (1 if self.tied else 2)
        return stage + embedding + self.hidden

    def check_parallel(self, tensor: int, pipeline: int) -> None:
        """Raises ValueError where Megatron could not split this model so."""
        for name, size, what, count in (
            ("TENSOR_PARALLEL", tensor, "--num-attention-heads", self.heads),
            ("TENSOR_PARALLEL", tensor, "--num-query-groups", self.groups),
            ("PIPELINE_PARALLEL", pipeline, "--num-layers", self.layers),
        ):
            if count % size:
                raise ValueError(f"{name} {size} does not divide the student's {what} {count}")


def architecture_of(words: Sequence[str]) -> Architecture:
    """Raises ValueError naming a flag whose parameters are not known here: experts, other layers, other attention."""
    sizes: dict[str, int] = {}
    switches = set()
    rms = False
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in _SWITCHES:
            switches.add(word)
        elif word in _NUMBERS and rest:
            sizes[_NUMBERS[word]] = _whole(word, rest.pop(0))
        elif word in _NO_PARAMETERS and rest:
            rest.pop(0)
        elif word == "--normalization" and rest:
            rms = rest.pop(0) == "RMSNorm"
        else:
            raise ValueError(f"what {word} means for the number of parameters is not known")
    missing = [flag for flag, name in _NUMBERS.items() if name not in sizes and name not in ("groups", "channels")]
    if missing:
        raise ValueError(f"{missing[0]} is not given")
    if not rms:
        raise ValueError("only --normalization RMSNorm is known")
    return Architecture(
        **{"groups": sizes["heads"], "channels": sizes["hidden"] // sizes["heads"]} | sizes,
        gated="--swiglu" in switches,
        tied="--untie-embeddings-and-output-weights" not in switches,
        qkv_bias="--add-qkv-bias" in switches,
        linear_bias="--disable-bias-linear" not in switches,
        qk_norm="--qk-layernorm" in switches,
    )


def _whole(flag: str, text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise ValueError(f"{flag} {text!r} is not a whole number above 0")
    return int(text)
