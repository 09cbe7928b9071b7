"""The prompt file as slime will read it: keys, empty and repeated prompts, their form, their length."""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from .model_files import BrokenFile, context_length
from .result import Result, failed, passed, skipped, warned
from .settings import Settings
from .tokenizer_files import MissingLibrary, load_tokenizer, render

LONGEST = 64
"""Prompts whose tokens are counted: the ones of most characters."""
_PREPARE = "python tools/prepare_prompts.py writes slime's form"


class UnreadablePrompts(ValueError):
    """A prompt file that slime could not read."""


@dataclass
class Seen:
    """What a pass over the file found. longest: (characters, prompt), the LONGEST longest; prompt: text or messages."""

    rows: int = 0
    broken: int = 0
    whole: bool = True
    keys: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    distinct: set[bytes] = field(default_factory=set)
    longest: list[tuple[int, int, Any]] = field(default_factory=list)

    def fault(self, what: str) -> None:
        self.faults[what] += 1
        self.first.setdefault(what, self.rows)


def check_prompts(settings: Settings) -> Iterator[Result]:
    if not settings.text("PROMPT_DATA"):
        if settings.local_engine:
            yield skipped("prompts", "BACKEND=local makes its own", "set PROMPT_DATA to use a file")
        else:
            yield settings.unset("prompts", "PROMPT_DATA")
        return
    try:
        seen = _read(settings)
    except UnreadablePrompts as error:
        yield failed("prompts", str(error), f"correct PROMPT_DATA; {_PREPARE}")
        return
    if seen.rows == seen.broken:
        yield failed("prompts", f"{seen.rows} rows, none of them a JSON object", _PREPARE)
        return
    yield _keys(settings, seen)
    yield _form(settings, seen)
    yield _repeats(settings, seen)
    if not seen.faults:
        yield _lengths(settings, seen)


def rows_of(name: str) -> Iterator[dict[str, Any] | None]:
    """Rows of FILE or FILE@[start:end], None for a line that is no JSON. Raises UnreadablePrompts, as slime would."""
    sliced = re.fullmatch(r"(?P<path>.*)@\[(?P<start>-?\d*):(?P<end>-?\d*)\]", name)
    path = Path(sliced["path"] if sliced else name).expanduser()
    if not path.is_file():
        raise UnreadablePrompts(f"{path} is no file")
    if path.suffix not in (".jsonl", ".parquet"):
        raise UnreadablePrompts(f"{path} is neither .jsonl nor .parquet, and slime reads nothing else")
    rows = _jsonl(path) if path.suffix == ".jsonl" else _parquet(path)
    if not sliced:
        return rows
    bounds = [int(text) if text else None for text in (sliced["start"], sliced["end"])]
    if any(bound is not None and bound < 0 for bound in bounds):
        return iter(list(rows)[slice(*bounds)])
    return islice(rows, *bounds)


def _jsonl(path: Path) -> Iterator[dict[str, Any] | None]:
    with path.open(encoding="utf-8") as file:
        try:
            for line in file:
                if line.strip():
                    yield _row(line)
        except UnicodeDecodeError as error:
            raise UnreadablePrompts(f"{path} is not UTF-8: {error}") from error


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise UnreadablePrompts(f"{path} needs pyarrow, which is not installed") from error
    try:
        for batch in pq.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise UnreadablePrompts(f"{path} is no Parquet file: {error}") from error


def _read(settings: Settings) -> Seen:
    seen, key, label = Seen(), settings.input_key, settings.text("LABEL_KEY")
    rows = rows_of(settings.text("PROMPT_DATA"))
    for row in islice(rows, settings.prompt_rows):
        seen.rows += 1
        if row is None:
            seen.broken += 1
            continue
        seen.keys.update(row.keys())
        if label and label not in row:
            seen.fault(f"no {label!r}")
        if key in row:
            _look_at(row[key], settings.is_on("APPLY_CHAT_TEMPLATE"), seen)
        else:
            seen.fault(f"no {key!r}")
    seen.whole = next(iter(rows), None) is None
    return seen


def _look_at(prompt: Any, template: bool, seen: Seen) -> None:
    if isinstance(prompt, str):
        text = prompt
    elif isinstance(prompt, list) and all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in prompt):
        text = json.dumps(prompt, ensure_ascii=False, sort_keys=True) if any(m["content"] for m in prompt) else ""
        if not template:
            seen.fault("messages without APPLY_CHAT_TEMPLATE")
    else:
        seen.fault("neither text nor messages" if prompt is not None else "empty")
        return
    if not text.strip():
        seen.fault("empty")
        return
    seen.distinct.add(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())
    entry = (len(text), seen.rows, prompt)
    if len(seen.longest) < LONGEST:
        heapq.heappush(seen.longest, entry)
    elif entry > seen.longest[0]:
        heapq.heapreplace(seen.longest, entry)


def _keys(settings: Settings, seen: Seen) -> Result:
    named = [name for name in (settings.input_key, settings.text("LABEL_KEY")) if name]
    lost = [fault for fault in seen.faults if fault.startswith("no ")]
    if lost:
        known = ", ".join(sorted(seen.keys)[:12])
        told = f"{seen.faults[lost[0]]:,} of {seen.rows:,} rows have {lost[0]} (row {seen.first[lost[0]]} first)"
        return failed("prompts", f"{told}; keys are {known}", "set INPUT_KEY and LABEL_KEY to keys that every row has")
    if seen.broken:
        found = f"{seen.broken:,} of {seen.rows:,} lines are no JSON object; slime leaves out those it cannot parse"
        return warned("prompts", found, _PREPARE)
    more = "" if seen.whole else f" (the first {settings.prompt_rows:,}; --prompt-rows)"
    return passed("prompts", f"{seen.rows:,} rows{more} with {', '.join(map(repr, named))}", rows=seen.rows)


def _form(settings: Settings, seen: Seen) -> Result:
    faults = {fault: n for fault, n in seen.faults.items() if not fault.startswith("no ")}
    if not faults:
        form = "through the chat template" if settings.is_on("APPLY_CHAT_TEMPLATE") else "as they are"
        return passed("prompt form", f"text is there, taken {form}")
    told = "; ".join(f"{n:,} {fault} (row {seen.first[fault]} first)" for fault, n in faults.items())
    fix = "set APPLY_CHAT_TEMPLATE=1" if "messages without APPLY_CHAT_TEMPLATE" in faults else _PREPARE
    return failed("prompt form", told, fix)


def _repeats(settings: Settings, seen: Seen) -> Result:
    prompts = seen.rows - seen.broken
    repeated, need = prompts - len(seen.distinct) - sum(seen.faults.values()), settings.number("ROLLOUT_BATCH_SIZE")
    if seen.whole and prompts < need:
        found = f"{prompts} prompts are fewer than ROLLOUT_BATCH_SIZE {need}"
        return failed("prompt count", found, "more prompts, or a smaller ROLLOUT_BATCH_SIZE")
    used = need * settings.number("NUM_ROLLOUT")
    passes = f"; a run takes {used:,}" + (
        f", {used / prompts:.1f} times the file" if seen.whole and used > prompts else ""
    )
    if repeated > 0:
        found = f"{repeated:,} of {prompts:,} prompts repeat another{passes}"
        return warned("prompt count", found, _PREPARE, repeated=repeated)
    return passed("prompt count", f"{len(seen.distinct):,} different{passes}", different=len(seen.distinct))


def _lengths(settings: Settings, seen: Seen) -> Result:
    """The longest prompts in tokens beside the shortest context of the two models."""
    check, student = "prompt length", settings.model("STUDENT_HF")
    if student is None or not student.is_dir():
        return skipped(check, "no local STUDENT_HF to count tokens with", "set STUDENT_HF")
    try:
        tokenizer, contexts = load_tokenizer(student), _contexts(settings)
        lengths = [len(_ids(tokenizer, prompt, settings.is_on("APPLY_CHAT_TEMPLATE"))) for *_, prompt in seen.longest]
    except (MissingLibrary, BrokenFile) as error:
        return skipped(check, str(error), "make the tokenizer checks pass first")
    longest, response = max(lengths), settings.number("ROLLOUT_MAX_RESPONSE_LEN")
    found = (
        f"the longest of {len(lengths)} by characters has {longest:,} tokens, {longest + response:,} with a response"
    )
    if not contexts:
        return skipped(check, f"{found}; no config says how long a context is", "set TEACHER_CONTEXT_LENGTH")
    name, context = min(contexts.items(), key=lambda item: item[1])
    over = sum(length + response >= context for length in lengths)
    if over:
        fix = (
            "shorter prompts (tools/prepare_prompts.py), ROLLOUT_MAX_PROMPT_LEN, or a smaller ROLLOUT_MAX_RESPONSE_LEN"
        )
        return failed(check, f"{found}; {over} do not fit the {name}'s context of {context:,}", fix, longest=longest)
    return passed(check, f"{found}; the {name}'s context is {context:,}", longest=longest)


def _contexts(settings: Settings) -> dict[str, int]:
    contexts = {}
    for name, variable in (("student", "STUDENT_HF"), ("teacher", "TEACHER_MODEL")):
        path = settings.model(variable)
        length = context_length(path) if path and path.is_dir() else None
        if length:
            contexts[name] = length
    if settings.text("TEACHER_CONTEXT_LENGTH"):
        contexts["teacher"] = settings.number("TEACHER_CONTEXT_LENGTH")
    return contexts


def _ids(tokenizer: Any, prompt: Any, template: bool) -> list[int]:
    """As slime's Dataset renders and its generate encodes it."""
    if template:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        prompt = render(tokenizer, messages)
    return tokenizer.encode(prompt, add_special_tokens=False)
