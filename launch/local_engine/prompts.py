"""Problems from a JSONL file, and their split into training and held-out sides."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

INPUT_KEYS = ("prompt", "question", "input")
LABEL_KEYS = ("label", "answer", "solution")


@dataclass(frozen=True)
class Problem:
    prompt: str
    solution: str


def load_problems(path: str | Path, input_key: str | None = None, label_key: str | None = None) -> list[Problem]:
    """Problems of a JSONL file, one object per line, in file order; blank lines are skipped.

    The prompt is a string, or a chat (a list of {"role", "content"}) whose contents are joined by newlines.
    The label is a string or a number. Without keys, the first record decides: the first of INPUT_KEYS and the
    first of LABEL_KEYS that it has.

    Raises ValueError, in one line with file, line and flag, for whatever cannot be read that way.
    """
    problems = []
    for where, record in _records(Path(path)):
        if input_key is None:
            input_key = _detect(record, INPUT_KEYS, "--input-key", where)
        if label_key is None:
            label_key = _detect(record, LABEL_KEYS, "--label-key", where)
        prompt = _prompt_text(_value(record, input_key, "--input-key", where), f"{where}: --input-key {input_key}")
        label = _label_text(_value(record, label_key, "--label-key", where), f"{where}: --label-key {label_key}")
        problems.append(Problem(prompt, label))
    if not problems:
        raise ValueError(f"--prompts {path}: no records; expected JSONL, one object per line")
    return problems


def same_prompt(problem: Problem) -> str:
    """What two problems share when they ask the same: the prompt up to white space."""
    return " ".join(problem.prompt.split())


def split_problems(problems: list[Problem], held_out: int, seed: int) -> tuple[list[Problem], list[Problem]]:
    """(train, held_out), shuffled by seed; `held_out` distinct prompts are held out with all their problems.

    Prompts that differ only in white space count as the same, so that none is on both sides.

    Raises ValueError when held_out < 1, or when no distinct prompt would be left to train on.
    """
    if held_out < 1:
        raise ValueError(f"--held-out-problems {held_out} must be 1 or more")
    by_prompt: dict[str, list[Problem]] = {}
    for problem in problems:
        by_prompt.setdefault(same_prompt(problem), []).append(problem)
    if len(by_prompt) <= held_out:
        raise ValueError(
            f"{len(by_prompt)} distinct prompts are too few for --held-out-problems {held_out}; "
            f"at least {held_out + 1} are needed"
        )
    groups = list(by_prompt.values())
    random.Random(seed).shuffle(groups)
    return (
        [problem for group in groups[held_out:] for problem in group],
        [problem for group in groups[:held_out] for problem in group],
    )


def _records(path: Path):
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"--prompts {path}: cannot be read ({error.strerror}); expected a JSONL file, one object per line"
        ) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"--prompts {path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8; expected UTF-8 text"
        ) from error
    # Not splitlines(): JSON strings may hold U+2028 and others that it also splits at.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"--prompts {path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not JSON ({error}); expected one object per line") from error
        if not isinstance(record, dict):
            raise ValueError(f"{where}: {_kind(record)}; expected an object with a prompt and a label")
        yield where, record


def _detect(record: dict, candidates: tuple[str, ...], flag: str, where: str) -> str:
    for key in candidates:
        if key in record:
            return key
    raise ValueError(f"{where}: none of {', '.join(candidates)} is there; set {flag} to one of {_keys(record)}")


def _value(record: dict, key: str, flag: str, where: str):
    if key not in record:
        raise ValueError(f"{where}: {flag} {key!r} is not there; this record has {_keys(record)}")
    return record[key]


def _prompt_text(value, where: str) -> str:
    if isinstance(value, list):
        for message in value:
            if not isinstance(message, dict) or not isinstance(message.get("content"), str):
                raise ValueError(f'{where}: a chat must be a list of {{"role": ..., "content": "text"}} objects')
        value = "\n".join(message["content"] for message in value)
    if not isinstance(value, str):
        raise ValueError(f"{where}: {_kind(value)}; a prompt must be a string or a list of chat messages")
    if not value.strip():
        raise ValueError(f"{where}: the prompt is blank; a prompt needs text")
    return _unicode(value, where)


def _label_text(value, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{where}: {_kind(value)}; a label must be a string or a number")
    return _unicode(str(value), where)


def _unicode(text: str, where: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{where}: a lone surrogate (\\ud800 to \\udfff) is not text; write it as UTF-8 or as a pair")
    return text


def _keys(record: dict) -> str:
    return ", ".join(repr(key) for key in record) or "no keys"


def _kind(value) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
