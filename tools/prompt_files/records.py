"""One row of the source as slime's prompt, label and metadata; and what makes two prompts the same."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

INPUT_KEYS = ("prompt", "question", "problem", "input")
LABEL_KEYS = ("label", "answer", "solution")
Message = dict[str, str]


@dataclass(frozen=True)
class Form:
    """What a prompt is made into. template: text with {prompt} in it. system: the first message's content."""

    template: str | None = None
    system: str | None = None
    as_messages: bool = False
    label_from: str = "whole"

    def __post_init__(self) -> None:
        if self.template is not None and "{prompt}" not in self.template:
            raise ValueError(f"--prompt-template {self.template!r} does not contain {{prompt}}")
        if self.label_from not in LABELS:
            raise ValueError(f"--label-from {self.label_from!r} is none of {', '.join(LABELS)}")


@dataclass(frozen=True)
class Keys:
    """input: of the prompt. label: None where there are no labels."""

    input: str
    label: str | None


@dataclass(frozen=True)
class Prompt:
    """One line of slime's file. content_hash: sha256 of the source's prompt, normalised; before any template."""

    prompt: str | list[Message]
    label: str | None
    metadata: dict[str, Any]
    content_hash: str

    def record(self) -> dict[str, Any]:
        """As slime reads it: --input-key prompt --label-key label, and metadata."""
        label = {} if self.label is None else {"label": self.label}
        return {"prompt": self.prompt, **label, "metadata": self.metadata | {"prompt_id": self.content_hash[:16]}}


def find_keys(record: dict[str, Any], input_key: str | None, label_key: str | None) -> Keys:
    """Keys that are not given are the first of INPUT_KEYS and LABEL_KEYS that the first record has.

    Raises ValueError naming the flag and the keys that are there.
    """
    names = ", ".join(map(repr, record)) or "none"
    if input_key is None:
        input_key = next((key for key in INPUT_KEYS if key in record), None)
        if input_key is None:
            raise ValueError(f"none of {', '.join(INPUT_KEYS)} is a key; set --input-key to one of {names}")
    for flag, key in (("--input-key", input_key), ("--label-key", label_key)):
        if key is not None and key not in record:
            raise ValueError(f"{flag} {key!r} is not there; the keys are {names}")
    others = (key for key in LABEL_KEYS if key in record and key != input_key)
    return Keys(input_key, next(others, None) if label_key is None else label_key)


def make_prompt(record: dict[str, Any], keys: Keys, form: Form) -> Prompt:
    """Raises ValueError, in one line, for a record that has no usable prompt or label."""
    if keys.input not in record:
        raise ValueError(f"no {keys.input!r}")
    source = _messages(record[keys.input]) if isinstance(record[keys.input], list) else record[keys.input]
    if not isinstance(source, str | list):
        raise ValueError(f"{keys.input!r} is neither text nor a list of messages")
    text = same_text(source)
    if not text:
        raise ValueError("the prompt is empty")
    label = None
    if keys.label is not None:
        if keys.label not in record:
            raise ValueError(f"no {keys.label!r}")
        label = LABELS[form.label_from](_label(record[keys.label]))
    metadata = record.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise ValueError("'metadata' is not an object")
    _check_metadata(metadata)
    content_hash = hashlib.sha256(_encoded(text)).hexdigest()
    return Prompt(_formed(source, form), label, metadata, content_hash)


def same_text(prompt: str | Sequence[Message]) -> str:
    """What two prompts share when they are the same: the text up to white space and Unicode's composed forms.

    Upper and lower case stay apart: in mathematics they mean different things. A chat of one user's message is the
    same as its text.
    """
    if not isinstance(prompt, str):
        alone = len(prompt) == 1 and prompt[0]["role"] == "user"
        prompt = prompt[0]["content"] if alone else "\n".join(f"{m['role']}: {m['content']}" for m in prompt)
    return " ".join(unicodedata.normalize("NFC", prompt).split())


def _messages(value: list[Any]) -> list[Message]:
    for message in value:
        good = isinstance(message, dict) and message.keys() == {"role", "content"}
        if not good or not all(isinstance(part, str) for part in message.values()):
            raise ValueError('a message is not {"role": "...", "content": "text"}')
    if not any(message["content"].strip() for message in value if message["role"] != "system"):
        raise ValueError("the prompt is empty")
    return value


def _formed(source: str | list[Message], form: Form) -> str | list[Message]:
    if isinstance(source, list):
        if form.template is not None:
            raise ValueError("--prompt-template goes with prompts that are text; this one is a list of messages")
        if form.system is not None and any(message["role"] == "system" for message in source):
            raise ValueError("--system goes with prompts that have no system message; this one has")
        messages = source
    else:
        text = source if form.template is None else form.template.replace("{prompt}", source)
        if form.system is None and not form.as_messages:
            return text
        messages = [{"role": "user", "content": text}]
    return messages if form.system is None else [{"role": "system", "content": form.system}, *messages]


def _label(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("the label is neither text nor a number")
    text = str(value)
    _encoded(text)
    if not text.strip():
        raise ValueError("the label is empty")
    return text


def _check_metadata(metadata: dict[str, Any]) -> None:
    try:
        _encoded(json.dumps(metadata, ensure_ascii=False, allow_nan=False))
    except TypeError as error:
        raise ValueError(f"'metadata' is not JSON ({error})") from error


def _gsm8k(text: str) -> str:
    """'... #### 1,234' -> '1234'."""
    _, mark, answer = text.rpartition("####")
    answer = answer.strip().replace(",", "")
    if not mark or not answer:
        raise ValueError("the label has no '#### ANSWER' at its end")
    return answer


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("a lone surrogate (\\ud800 to \\udfff) is not text") from error


LABELS: dict[str, Callable[[str], str]] = {"whole": str, "gsm8k": _gsm8k}
"""--label-from: what of the source's label becomes slime's."""
