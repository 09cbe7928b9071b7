"""Models in transformers' form as what scoring needs of them: final hidden states at some positions, and the head.

Axes: B sequences, L positions, R response tokens of one context, n rows, H hidden, V vocabulary.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from .contexts import Context, batches
from .identity import model_fingerprint

DTYPES = ("auto", "float32", "bfloat16", "float16")
_CHECK_TOKENS = 8
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.py"]
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model", "*.tiktoken")
_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
_CHECK_TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 6e-2}


@dataclass(frozen=True)
class Head:
    """Hidden states to logits. weight: [V, H]; bias: [V] or None; the logits are multiplied by scale and, where softcap
    is not None, softly limited to it, as Gemma, Cohere and Granite have it."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    @property
    def vocabulary(self) -> int:
        return len(self.weight)

    @torch.no_grad()
    def logits(self, hidden: Tensor, columns: int | None = None) -> Tensor:
        """float32 [n, V] of hidden [n, H], or the first `columns`; the product is in the model's own type."""
        z = hidden.to(self.weight) @ self.weight[:columns].T
        if self.bias is not None:
            z += self.bias[:columns]
        z = z.float()
        if self.scale != 1:
            z *= self.scale
        return z if self.softcap is None else torch.tanh(z / self.softcap) * self.softcap


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk, before it is loaded. positions: the longest input it takes, None where it does not say."""

    role: str
    path: Path
    fingerprint: str
    positions: int | None
    vocabulary: int
    dtype: str

    @staticmethod
    def of(role: str, path: str | Path, dtype: str = "auto", trust_remote_code: bool = False) -> ModelFiles:
        """role: "student" or "teacher". dtype: one of DTYPES; auto is the type it was saved in. Raises ValueError,
        naming the flag, for what is no model."""
        path = local_folder(f"--{role}", path)
        try:
            config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"--{role} {path}: no model that transformers can read ({_first_line(error)})") from error
        text = config.get_text_config()
        saved = str(text.dtype or config.dtype or torch.float32).removeprefix("torch.")
        return ModelFiles(
            role,
            path,
            model_fingerprint(path),
            getattr(text, "max_position_embeddings", None),
            text.vocab_size,
            saved if dtype == "auto" else dtype,
        )

    def check_contexts(self, contexts: Sequence[Context]) -> None:
        """Raises ValueError naming contexts that are longer than the model, or that hold ids which it has not."""
        if self.positions is not None:
            long = [context for context in contexts if len(context.inputs) > self.positions]
            if long:
                longest = max(len(context.inputs) for context in long)
                raise ValueError(
                    f"{len(long):,} of {len(contexts):,} contexts are longer than the {self.role}'s {self.positions:,} "
                    f"positions (longest {longest:,}; {_names(long)}): lower --max-response-tokens or leave them out"
                )
        beyond = [c for c in contexts if c.highest_id >= self.vocabulary or c.lowest_id < 0]
        if beyond:
            raise ValueError(
                f"{len(beyond):,} of {len(contexts):,} contexts hold token ids outside the {self.role}'s 0.."
                f"{self.vocabulary - 1:,} ({_names(beyond)}): the bank was made with another tokenizer"
            )


class ScoringModel:
    """A loaded model; `head` and `device` are where its hidden states go. Raises ValueError where it cannot be loaded
    or its logits are not its head applied to its hidden states."""

    def __init__(self, files: ModelFiles, device: str, trust_remote_code: bool = False) -> None:
        self.files = files
        placed = {"device_map": "auto"} if device == "auto" else {}
        with _quiet():
            try:
                model = transformers.AutoModelForCausalLM.from_pretrained(
                    files.path, dtype=getattr(torch, files.dtype), trust_remote_code=trust_remote_code, **placed
                )
            except (ValueError, OSError, ImportError, RuntimeError) as error:
                raise ValueError(f"--{files.role} {files.path}: cannot be loaded ({_first_line(error)})") from error
        self._model = model.eval() if placed else model.to(device).eval()
        self.input_device = self._model.get_input_embeddings().weight.device
        output = self._model.get_output_embeddings()
        config = self._model.config.get_text_config()
        scaling = getattr(config, "logits_scaling", None)
        self.head = Head(
            output.weight.detach(),
            None if getattr(output, "bias", None) is None else output.bias.detach(),
            1 / scaling if scaling else getattr(config, "logit_scale", None) or 1.0,
            getattr(config, "final_logit_softcapping", None),
        )
        self._check_head()

    @property
    def parameters(self) -> int:
        return sum(values.numel() for values in self._model.parameters())

    @torch.no_grad()
    def hidden_rows(self, contexts: Sequence[Context], batch_tokens: int) -> Tensor:
        """[N, H] on the head's device, in the contexts' order: row t of a context predicts its response token t."""
        inputs = [context.inputs for context in contexts]
        rows: list[Tensor | None] = [None] * len(contexts)
        for batch in batches([len(ids) for ids in inputs], batch_tokens):
            hidden = self._hidden([inputs[place] for place in batch])
            for line, place in enumerate(batch):
                end = len(inputs[place])
                rows[place] = hidden[line, end - len(contexts[place].response) : end].to(self.head.weight.device)
            del hidden
        return torch.cat(rows)

    def _hidden(self, inputs: Sequence[np.ndarray]) -> Tensor:
        """[B, L, H]. Padding on the right: a causal model never looks at it, so there is no mask to build."""
        ids = torch.zeros(len(inputs), max(map(len, inputs)), dtype=torch.int64)
        for line, tokens in zip(ids, inputs, strict=True):
            line[: len(tokens)] = torch.from_numpy(tokens)
        return self._model.get_decoder()(ids.to(self.input_device), use_cache=False).last_hidden_state

    @torch.no_grad()
    def _check_head(self) -> None:
        ids = torch.arange(_CHECK_TOKENS) % self.head.vocabulary
        expected = self._model(ids[None].to(self.input_device), use_cache=False).logits[0].float()
        found = self.head.logits(self._hidden([ids.numpy()])[0].to(self.head.weight.device))
        if bool(expected.isnan().any()):
            raise ValueError(f"--{self.files.role} {self.files.path}: its logits are NaN already for {ids.tolist()}")
        scale = float(expected[expected.isfinite()].abs().max())
        error = float((found.to(expected.device) - expected).nan_to_num(0).abs().max())
        if error > _CHECK_TOLERANCE[self.head.weight.dtype] * max(1.0, scale):
            raise ValueError(
                f"--{self.files.role} {self.files.path}: {type(self._model).__name__} does more to its logits than its "
                f"output layer (they differ by {error:.3g}); this architecture is not supported"
            )


def check_device(flag: str, device: str) -> None:
    """Raises ValueError unless device is cpu, cuda, cuda:N or auto and this machine has it."""
    number = device.removeprefix("cuda:")
    if device not in ("cpu", "cuda", "auto") and not (device.startswith("cuda:") and number.isdecimal()):
        raise ValueError(f"{flag} {device!r} is not cpu, cuda, cuda:N or auto")
    count = torch.cuda.device_count()
    if device != "cpu" and count == 0:
        raise ValueError(f"{flag} {device}, but torch sees no CUDA device; allowed here: cpu")
    if device.startswith("cuda:") and int(number) >= count:
        raise ValueError(f"{flag} {device}, but there are {count} CUDA devices, from cuda:0 on")


def load_tokenizer(flag: str, path: str | Path, trust_remote_code: bool = False) -> Any:
    """Raises ValueError, naming the flag, where there is none: transformers makes up an empty one for a known model."""
    _check_name(flag, path)
    if Path(path).is_dir() and not any(any(Path(path).glob(name)) for name in _TOKENIZER_FILES):
        raise ValueError(f"{flag} {path}: no tokenizer files")
    with _quiet():
        try:
            return transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"{flag} {path}: no tokenizer that can be read ({_first_line(error)})") from error


def local_folder(flag: str, path: str | Path) -> Path:
    """The directory itself, or a hub name's snapshot. Raises ValueError, naming the flag, where it is neither."""
    _check_name(flag, path)
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(path), allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(f"{flag} {path}: neither a directory nor a hub's ({_first_line(error)})") from error


def _check_name(flag: str, path: str | Path) -> None:
    """A directory, or what can be a name on the hub."""
    if not Path(path).is_dir() and not _HUB_NAME.fullmatch(str(path)):
        raise ValueError(f"{flag} {path}: no such directory")


class _quiet:
    """transformers' progress bars and notices held back, and given back as they were."""

    def __enter__(self) -> None:
        log = transformers.utils.logging
        self._before = log.get_verbosity(), log.is_progress_bar_enabled()
        log.set_verbosity(logging.ERROR)
        log.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        log = transformers.utils.logging
        log.set_verbosity(self._before[0])
        if self._before[1]:
            log.enable_progress_bar()


def _names(contexts: Sequence[Context], most: int = 3) -> str:
    shown = ", ".join(context.context_id for context in contexts[:most])
    return shown if len(contexts) <= most else f"{shown}, ..."


def _first_line(error: Exception) -> str:
    lines = str(error).strip().split("\n")
    return lines[0] or type(error).__name__
