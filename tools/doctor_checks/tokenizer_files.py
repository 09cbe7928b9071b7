"""A tokenizer as slime and SGLang load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from .model_files import BrokenFile


class MissingLibrary(ImportError):
    """transformers, or jinja2 for templates, is not installed."""


@cache
def load_tokenizer(model: Path) -> Any:
    """Raises MissingLibrary without transformers, BrokenFile where it cannot read the files. Nothing is downloaded and
    no code of the model is run."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise MissingLibrary(f"transformers cannot be imported: {error}") from error
    transformers.logging.set_verbosity_error()
    try:
        return transformers.AutoTokenizer.from_pretrained(str(model), local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BrokenFile(f"the tokenizer in {model} cannot be loaded: {first[:200]}") from error


def render(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> str:
    """A conversation through the tokenizer's chat template, as slime renders it. Raises MissingLibrary without jinja2,
    BrokenFile where there is no template or it refuses the conversation."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingLibrary(f"chat templates need jinja2: {error}") from error
    try:
        return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except (ValueError, jinja2.TemplateError) as error:
        raise BrokenFile(
            f"the chat template of {tokenizer.name_or_path}: {str(error).splitlines()[0][:200]}"
        ) from error
