"""What goes to and comes from an SGLang server's /generate: the request's bytes, and an answer's bytes as arrays.

The teacher's top-k comes in one of three forms, told apart by the keys of the answer: nested (every version), flat and
base64 (SGLang 0.5.23; a server that does not know the request's keys ignores them and answers nested). Sampled
log-probs and those at asked ids are always nested. The first position of a request has no log-prob; the request starts
one token before the response, so R + 1 positions come back and the last R are the response's.

Axes: R response tokens of one sample, K entries of the teacher's list, K_S of the student's, U ids asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..support import NO_TOKEN
from .answer import TeacherFault, meta_info
from .exact_support import known_on_student, look_up
from .nested_rows import as_float32, as_ids, blocks
from .signal import Floats, Ints, TeacherSignal, TopKRows

TOLERANCE = 0.02
"""Nats above 0 for a log-prob, and above 1 for a row's probabilities: bf16 rounding."""

_DTYPES = {"float32": "<f4", "float64": "<f8", "float16": "<f2", "int32": "<i4", "int64": "<i8"}


@dataclass(frozen=True)
class Question:
    """What one request asks.

    tokens: int64 [prompt + R]. top_k: K asked for, padded to if the vocabulary is smaller. student_ids: int32
    [R, K_S] of exact C, or None. asked_ids: int32 [U], their union; overflowed: it is not the whole one. images:
    encoded images, for which the server may put more tokens into the prompt. wire: the form asked for. vocabulary: the
    teacher's.
    """

    tokens: NDArray[np.int64]
    response_length: int
    top_k: int
    vocabulary: int
    student_ids: Ints | None = None
    asked_ids: Ints = field(default_factory=lambda: np.empty(0, np.int32))
    overflowed: bool = False
    images: tuple[str, ...] = ()
    wire: str = "auto"

    def body(self) -> bytes:
        """The request's JSON."""
        import msgspec

        asked: dict[str, Any] = {
            "input_ids": self.tokens.tolist(),
            # Log-probs of a prompt do not depend on the temperature; 1 is the one they are at.
            "sampling_params": {"max_new_tokens": 0, "temperature": 1.0, "skip_special_tokens": False},
            "return_logprob": True,
            "logprob_start_len": len(self.tokens) - self.response_length - 1,
        }
        if self.top_k:
            # A server dies of a top-k that is larger than its vocabulary.
            asked["top_logprobs_num"] = min(self.top_k, self.vocabulary)
            if self.wire != "nested":
                asked["return_flat_raw_top_logprobs"] = True
            if self.wire in ("auto", "base64"):
                asked["return_flat_raw_top_logprobs_b64"] = True
        if self.student_ids is not None:
            # A server dies of a batch in which only some ask for ids (sgl-project/sglang#34719).
            asked["token_ids_logprob"] = self.asked_ids.tolist() or [0]
        if self.images:
            asked["image_data"] = list(self.images)
        return msgspec.json.encode(asked)


@dataclass(frozen=True)
class Answer:
    """signal: what the teacher said. wire: the form its top-k came in, empty where none was asked for."""

    signal: TeacherSignal
    wire: str = ""


def decode(body: bytes, question: Question) -> Answer:
    """An answer's JSON as arrays, one row for each response token.

    A log-prob that is null or NaN becomes NaN, a top-k entry with one becomes empty. Raises TeacherFault: "malformed",
    "server_error", "aborted", "truncated", "short", "long", "misaligned".
    """
    import msgspec

    try:
        meta = meta_info(body)
        return Answer(_signal(meta, question), _form(meta) if question.top_k else "")
    except (msgspec.DecodeError, ValueError) as error:
        raise TeacherFault("malformed", str(error)) from error


def _signal(meta: Any, question: Question) -> TeacherSignal:
    if meta.prompt_tokens is not None and meta.prompt_tokens < len(question.tokens):
        raise TeacherFault("truncated", f"the server read {meta.prompt_tokens} of {len(question.tokens)} tokens")
    logprobs, ids = _sampled(meta, question)
    expected = question.tokens[-question.response_length :]
    # SGLang writes the last id of its vocabulary as 0, beside the right log-prob.
    wrong = (ids != expected) & ~((expected == question.vocabulary - 1) & (ids == 0))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise TeacherFault("misaligned", f"response token {first} is {expected[first]}, the answer has {ids[first]}")
    _check_logprobs(logprobs)
    return TeacherSignal(logprobs, _top_k(meta, question), _on_student(meta, question))


def _sampled(meta: Any, question: Question) -> tuple[Floats, Ints]:
    if meta.input_token_logprobs is None:
        raise ValueError("the answer has no input_token_logprobs")
    entries = _response(meta.input_token_logprobs, question, "input_token_logprobs")
    logprobs = as_float32(np.array([entry[0] for entry in entries], np.float64))
    return logprobs, as_ids(np.array([entry[1] for entry in entries], np.int64))


def _response(rows: list[Any], question: Question, name: str) -> list[Any]:
    """The response's R of the positions that came back."""
    _check_positions(len(rows), question, name)
    return rows[len(rows) - question.response_length :]


def _check_positions(positions: int, question: Question, name: str) -> None:
    expected = question.response_length + 1
    if positions < expected or (positions > expected and not question.images):
        reason = "short" if positions < expected else "long"
        raise TeacherFault(reason, f"{name} has {positions} positions; {expected} were asked for")


def _form(meta: Any) -> str:
    if meta.input_top_logprobs_val_flat_b64 is not None:
        return "base64"
    return "nested" if meta.input_top_logprobs_val_flat is None else "flat"


def _top_k(meta: Any, question: Question) -> TopKRows:
    rows, k = question.response_length, min(question.top_k, question.vocabulary)
    found = TopKRows.missing(rows, question.top_k)
    if question.top_k == 0:
        return found
    if _form(meta) == "nested":
        if meta.input_top_logprobs is None:
            raise ValueError("the answer has no input_top_logprobs")
        for start, ids, logprobs in blocks(_response(meta.input_top_logprobs, question, "input_top_logprobs"), k):
            found.ids[start : start + len(ids), :k] = ids
            found.logprobs[start : start + len(ids), :k] = logprobs
    else:
        ids, logprobs = _flat(meta, question)
        if ids.shape[1] > k:
            raise ValueError(f"a row has {ids.shape[1]} entries; {k} were asked for")
        found.ids[:, : ids.shape[1]] = ids
        found.logprobs[:, : ids.shape[1]] = logprobs
    unknown = np.isnan(found.logprobs) | (found.ids == NO_TOKEN)
    found.ids[unknown], found.logprobs[unknown] = NO_TOKEN, -np.inf
    _check_top_k(found, question.vocabulary)
    return found


def _flat(meta: Any, question: Question) -> tuple[Ints, Floats]:
    """ids [R, K] and logprobs [R, K] of the flat and base64 forms."""
    if _form(meta) == "base64":
        ids = _from_bytes(meta.input_top_logprobs_idx_flat_b64, meta.input_top_logprobs_idx_flat_b64_dtype)
        logprobs = _from_bytes(meta.input_top_logprobs_val_flat_b64, meta.input_top_logprobs_val_flat_b64_dtype)
    else:
        if meta.input_top_logprobs_idx_flat is None:
            raise ValueError("flat top-k without its ids")
        ids = np.array(meta.input_top_logprobs_idx_flat, np.int64)
        logprobs = np.array(meta.input_top_logprobs_val_flat, np.float64)
    shape = meta.input_top_logprobs_shape
    if shape is None or min(shape) < 0 or not ids.size == logprobs.size == shape[0] * shape[1]:
        raise ValueError(f"flat top-k of shape {shape} with {ids.size} ids and {logprobs.size} log-probs")
    _check_positions(shape[0] + meta.input_top_logprobs_null_prefix, question, "input_top_logprobs")
    if shape[0] < question.response_length:
        raise TeacherFault("short", f"input_top_logprobs has {shape[0]} rows of {question.response_length}")
    response = slice(shape[0] - question.response_length, None)
    return as_ids(ids.reshape(shape)[response]), as_float32(logprobs.reshape(shape)[response])


def _from_bytes(values: bytes | None, dtype: str) -> NDArray[Any]:
    if values is None or dtype not in _DTYPES:
        raise ValueError(f"base64 top-k of type {dtype!r}; known are {', '.join(_DTYPES)}")
    return np.frombuffer(values, _DTYPES[dtype])


def _on_student(meta: Any, question: Question) -> Floats | None:
    if question.student_ids is None:
        return None
    if not len(question.asked_ids):
        return known_on_student(question.student_ids, question.vocabulary, None)
    if meta.input_token_ids_logprobs is None:
        raise ValueError("the answer has no input_token_ids_logprobs")
    rows = _response(meta.input_token_ids_logprobs, question, "input_token_ids_logprobs")
    answered = np.empty(question.student_ids.shape, np.float32)
    for start, ids, logprobs in blocks(rows, len(question.asked_ids)):
        block = slice(start, start + len(ids))
        _check_logprobs(logprobs)
        answered[block] = look_up(ids, logprobs, question.student_ids[block])
    return known_on_student(question.student_ids, question.vocabulary, answered)


def _check_logprobs(logprobs: Floats) -> None:
    if (logprobs > TOLERANCE).any():
        raise ValueError(f"log-prob {logprobs[logprobs > TOLERANCE][0]} is above 0")


def _check_top_k(rows: TopKRows, vocabulary: int) -> None:
    """Raises ValueError for what no distribution gives."""
    _check_logprobs(rows.logprobs)
    if rows.ids.max(initial=NO_TOKEN) >= vocabulary:
        raise ValueError(f"token id {rows.ids.max()} is outside the vocabulary 0..{vocabulary - 1}")
    ordered = np.sort(rows.ids, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_TOKEN)).any():
        raise ValueError("a top-k list names the same token id twice")
    largest = float(np.exp(rows.logprobs).sum(1).max(initial=0))
    if largest > 1 + TOLERANCE:
        raise ValueError(f"a top-k list sums to {largest:.4f}, above 1")
