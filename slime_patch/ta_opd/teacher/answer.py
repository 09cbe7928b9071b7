"""The JSON of SGLang's /generate as typed fields, and the faults that it can say itself."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_DETAIL_LENGTH = 200  # characters: no response travels into a log or a file
_LITERAL = re.compile(rb"(?<=[\[,\s])(NaN|-Infinity)(?=[\],\s])")
_BELOW_FLOAT32 = b"-1e39"


class TeacherFault(Exception):
    """Why a sample has no teacher signal. reason: the key it is counted under. detail: one short line."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail[:_DETAIL_LENGTH]
        super().__init__(f"{reason}: {self.detail}" if detail else reason)


def meta_info(body: bytes) -> Any:
    """The meta_info of an answer, a field that is absent being None; rows of the widest fields stay bytes.

    Raises TeacherFault "server_error" or "aborted" where the answer says so itself, ValueError where it is no answer.
    """
    import msgspec

    decoder = _answer_decoder()
    try:
        answer = decoder.decode(body)
    except msgspec.DecodeError:
        # Servers that do not serialise with orjson write these literals, which JSON does not have.
        readable = _LITERAL.sub(lambda match: b"null" if match[0] == b"NaN" else _BELOW_FLOAT32, body)
        if readable == body:
            raise
        answer = decoder.decode(readable)
    if answer.meta_info is None:
        if answer.error is not None or answer.message is not None:
            raise TeacherFault("server_error", str(answer.error or answer.message))
        raise ValueError("the answer has no meta_info")
    reason = answer.meta_info.finish_reason or {}
    if reason.get("type") == "abort":
        raise TeacherFault("aborted", str(reason.get("message", "")))
    return answer.meta_info


@cache
def _answer_decoder() -> Any:
    import msgspec

    triples = list[tuple[float | None, int, str | None]]
    optional: dict[str, Any] = {
        "prompt_tokens": int,
        "finish_reason": dict[str, Any],
        "input_token_logprobs": triples,
        "input_top_logprobs": list[msgspec.Raw],
        "input_token_ids_logprobs": list[msgspec.Raw],
        "input_top_logprobs_val_flat": list[float | None],
        "input_top_logprobs_idx_flat": list[int],
        "input_top_logprobs_val_flat_b64": bytes,
        "input_top_logprobs_idx_flat_b64": bytes,
        "input_top_logprobs_shape": tuple[int, int],
    }
    defaults = {
        "input_top_logprobs_null_prefix": (int, 0),
        "input_top_logprobs_val_flat_b64_dtype": (str, "float32"),
        "input_top_logprobs_idx_flat_b64_dtype": (str, "int32"),
    }
    fields = [(name, kind | None, None) for name, kind in optional.items()]
    fields += [(name, kind, default) for name, (kind, default) in defaults.items()]
    meta = msgspec.defstruct("Meta", fields)
    return msgspec.json.Decoder(
        msgspec.defstruct("Generated", [("meta_info", meta | None, None), ("error", Any, None), ("message", Any, None)])
    )
