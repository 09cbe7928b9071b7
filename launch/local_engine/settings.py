"""Everything a run is made of, checked before anything is written."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
import transformers
from ta_opd import Options

from .defaults import GENERATED_PROBLEM_DEFAULTS, EngineDefaults
from .models import SMALLEST_VOCABULARY, ModelSize
from .suite import Run

FORMAT_VERSION = 1
_MAY_BE_ZERO = ("base_seed", "pretrain_warmup_steps", "pretrain_weight_decay", "weight_decay")
_LEAST = {"vocab_size": SMALLEST_VOCABULARY, "pretrain_seq_len": 2}
_SIZE = "hidden,layers,heads,kv_heads,intermediate"


@dataclass(frozen=True)
class Settings:
    """defaults: sizes and steps of the engine. options: selection and loss, the selector left to each run.
    prompts: what identifies the problems. device: "cpu" or "cuda". workers: runs at a time, which changes no number.
    source: where the problems come from, for people."""

    runs: list[Run]
    options: Options
    defaults: EngineDefaults
    prompts: dict[str, Any]
    device: str
    workers: int
    source: str

    def fingerprint(self) -> dict[str, Any]:
        """What two runs must share to share a directory; methods and seeds may be added later."""
        return {
            "format_version": FORMAT_VERSION,
            "prompts": self.prompts,
            "engine": asdict(self.defaults),
            "options": asdict(self.options),
            "device": self.device,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        }


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Every field of EngineDefaults as a flag: vocab_size is --vocab-size, a model size is five numbers."""
    group = parser.add_argument_group("engine: sizes, steps and rates")
    for f in fields(EngineDefaults):
        if isinstance(f.default, tuple):
            continue
        shown, generated = (_shown(getattr(base, f.name)) for base in (EngineDefaults(), GENERATED_PROBLEM_DEFAULTS))
        other = "" if shown == generated else f", {generated} with generated problems"
        form = f"{_SIZE}; " if isinstance(f.default, ModelSize) else ""
        kind = str if isinstance(f.default, ModelSize) else type(f.default)
        group.add_argument(engine_flag(f.name), type=kind, help=f"({form}default: {shown}{other})")


def engine_defaults(arguments: argparse.Namespace, base: EngineDefaults) -> EngineDefaults:
    """base with the flags that were given. Raises ValueError naming the flag and what is allowed."""
    given: dict[str, Any] = {}
    for f in fields(EngineDefaults):
        value = getattr(arguments, f.name, None)
        if value is None:
            continue
        if isinstance(f.default, ModelSize):
            given[f.name] = _model_size(f.name, value)
            continue
        least = 0 if f.name in _MAY_BE_ZERO else _LEAST.get(f.name, 1) if isinstance(value, int) else 0.0
        if not math.isfinite(value) or value < least or (value == 0 and f.name not in _MAY_BE_ZERO):
            allowed = "0 or more" if f.name in _MAY_BE_ZERO else f"{least} or more" if least else "above 0"
            raise ValueError(f"{engine_flag(f.name)} {value} must be {allowed}")
        given[f.name] = value
    return replace(base, **given)


def _shown(value: Any) -> str:
    return ",".join(map(str, asdict(value).values())) if isinstance(value, ModelSize) else str(value)


def engine_flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _model_size(name: str, text: str) -> ModelSize:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{engine_flag(name)} {text!r} is not {_SIZE}, five whole numbers") from error
    if len(numbers) != 5:
        raise ValueError(f"{engine_flag(name)} {text!r} is not {_SIZE}, five whole numbers")
    try:
        return ModelSize(*numbers)
    except ValueError as error:
        raise ValueError(f"{engine_flag(name)} {text}: {error}") from error
