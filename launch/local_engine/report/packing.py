"""Pack report data into the JSON that the page decodes: numbers as base64, each token text stored once."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

REQUIRED = ("title", "notice", "settings", "results", "contexts_n", "prompts_n", "history", "contexts")
RUN_KEYS = ("label", "method", "mask", "ratio", "seed", "step")
NO_TOKEN = 0xFFFFFF


def token_fields(context: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield the name and value of every field of a context that has one entry per token."""
    for name in ("student_logp", "teacher_logp", "student_top", "teacher_top", "quadrant"):
        yield name, context[name]
    for group in ("scores", "kept", "gain"):
        for name, values in context[group].items():
            yield f"{group}[{name!r}]", values


def check_data(data: Mapping[str, Any]) -> None:
    """Refuse data without the agreed sections, and assert that per-token fields match the tokens."""
    absent = [name for name in REQUIRED if name not in data]
    if absent:
        raise ValueError(f"report data lacks {', '.join(absent)}")
    for context in data["contexts"]:
        count = len(context["tokens"])
        for name, values in token_fields(context):
            assert len(values) == count, (
                f"context {context['id']!r}: {name} has {len(values)} entries for {count} tokens"
            )


def pack_integers(values: Sequence[int]) -> str:
    """Base64 of 3 little-endian bytes per number, so that each number takes exactly 4 characters."""
    array = np.array(values, dtype="<u4")
    return base64.b64encode(array.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()).decode()


def pack_floats(values: Sequence[float | None]) -> str:
    """Base64 of the upper 3 bytes of each float32 (16 significant bits); ``None`` becomes NaN."""
    array = np.array(values, dtype="<f4")
    rounded = array.view("<u4") + np.uint32(0x80)
    return base64.b64encode(rounded.view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()).decode()


def plain(value: Any) -> Any:
    """Turn a scalar into what JSON can hold: non-finite floats become null, others keep 6 digits."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


class Vocabulary(dict[str, int]):
    """Token texts numbered in order of first use, so that the file stores each text once."""

    def number(self, text: str) -> int:
        """Return the number of ``text``, adding it when it is new."""
        return self.setdefault(text, len(self))


def pack_top(rows: Sequence[Sequence[Sequence[Any]] | None], vocabulary: Vocabulary) -> dict[str, Any]:
    """Pack the most probable tokens per position; shorter rows are padded with ``NO_TOKEN``."""
    width = max((len(row or ()) for row in rows), default=0)
    numbers: list[int] = []
    probabilities: list[float | None] = []
    for row in rows:
        entries = row or ()
        numbers += [vocabulary.number(text) for text, _ in entries]
        probabilities += [probability for _, probability in entries]
        numbers += [NO_TOKEN] * (width - len(entries))
        probabilities += [None] * (width - len(entries))
    return {"width": width, "tokens": pack_integers(numbers), "probs": pack_floats(probabilities)}


def pack_context(context: Mapping[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """Pack one context; the page decodes it when it is first shown."""
    return {
        "id": context["id"],
        "split": context["split"],
        "prompt": context["prompt"],
        "tokens": pack_integers([vocabulary.number(text) for text in context["tokens"]]),
        "scores": {name: pack_floats(values) for name, values in context["scores"].items()},
        "student_logp": pack_floats(context["student_logp"]),
        "teacher_logp": pack_floats(context["teacher_logp"]),
        "student_top": pack_top(context["student_top"], vocabulary),
        "teacher_top": pack_top(context["teacher_top"], vocabulary),
        "quadrant": "".join(str(value or 0) for value in context["quadrant"]),
        "kept": dict(context["kept"]),
        "gain": {name: pack_floats(values) for name, values in context["gain"].items()},
    }


def pack_history(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Group history rows into runs, each with its steps and one packed array per numeric field."""
    runs: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in history:
        runs.setdefault((row["label"], row["seed"]), []).append(row)
    packed = []
    for (label, seed), rows in runs.items():
        rows = sorted(rows, key=lambda row: row["step"])
        names = dict.fromkeys(name for row in rows for name in row if name not in RUN_KEYS)
        columns = {name: [row.get(name) for row in rows] for name in names}
        fields = {name: pack_floats(column) for name, column in columns.items() if is_numeric(column)}
        steps = [row["step"] for row in rows]
        packed.append({"label": label, "seed": seed, "steps": steps, "fields": fields})
    return packed


def is_numeric(column: Sequence[Any]) -> bool:
    """Whether a column is what a curve can show: numbers, some perhaps missing."""
    there = [value for value in column if value is not None]
    return bool(there) and all(isinstance(value, (int, float, np.number)) for value in there)


def pack_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Build the JSON payload of the page."""
    vocabulary = Vocabulary()
    contexts = [pack_context(context, vocabulary) for context in data["contexts"]]
    return {
        "results": [{name: plain(value) for name, value in row.items()} for row in data["results"]],
        "contexts_n": data["contexts_n"],
        "prompts_n": data["prompts_n"],
        "history": pack_history(data["history"]),
        "vocabulary": list(vocabulary),
        "contexts": contexts,
        "score_info": data.get("score_info", {}),
    }


def safe_json(value: Any) -> str:
    """JSON in pure ASCII without ``<``, ``>`` or ``&``, so that no text can end or reopen its script element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
