"""slime's own generate plus the student's top-k at each response token.

    --custom-generate-function-path slime.rollout.opd_generate.generate

The top-k lies on the sample as `opd_student` and grows with it, over partial rollouts and the turns of a conversation.
A multi-turn function of your own calls `record_student_topk` after each of its requests.
"""

from __future__ import annotations

import inspect
import logging
from argparse import Namespace
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any

import numpy as np
from slime.rollout import sglang_rollout
from slime.utils.opd_settings import slime_options
from ta_opd.support import NO_TOKEN
from ta_opd.teacher.signal import TopKRows

logger = logging.getLogger(__name__)


async def generate(args: Namespace, sample: Any, sampling_params: dict[str, Any], evaluation: bool = False) -> Any:
    """slime's generate; in training its request also asks for the top --opd-topk-metrics-k of the student."""
    sample.opd_evaluation = evaluation
    k = slime_options(args).topk_metrics_k
    if evaluation or k == 0:
        return await sglang_rollout.generate(args, sample, sampling_params)
    answers: list[dict[str, Any]] = []

    async def post(url: str, payload: dict[str, Any], *rest: Any, **named: Any) -> dict[str, Any]:
        output = await sglang_rollout.post(url, {**payload, "top_logprobs_num": k}, *rest, **named)
        answers.append(output["meta_info"])
        return output

    start = sample.response_length
    sample = await _with_post(sglang_rollout.generate, post)(args, sample, sampling_params)
    assert len(answers) <= 1, "slime's generate makes one request"
    for meta_info in answers:
        record_student_topk(sample, meta_info, k, start)
    return sample


def check_generate() -> None:
    """Raises RuntimeError where slime's generate is not the one this module knows."""
    _with_post(sglang_rollout.generate, sglang_rollout.post)


def record_student_topk(sample: Any, meta_info: dict[str, Any], k: int, start: int) -> None:
    """Append the top-k of the response tokens that were generated from position `start` of the response on.

    meta_info: the answer's, asked with `top_logprobs_num` = k. Tokens before `start` that have no rows, such as a
    tool's, get missing ones. An answer whose rows do not match the tokens that were appended leaves them missing.
    """
    rows = getattr(sample, "opd_student", None)
    rows = TopKRows.missing(0, k) if rows is None else TopKRows(rows.ids[:start], rows.logprobs[:start])
    rows = rows.then(TopKRows.missing(start - len(rows), k))
    listed = meta_info.pop("output_top_logprobs", None) or []
    count = sample.response_length - start
    if len(listed) != count:
        logger.warning("the student's top-k has %d rows for %d new tokens; they count as missing", len(listed), count)
        listed = [None] * count
    sample.opd_student = rows.then(topk_rows(listed, k))


def topk_rows(listed: list[list[tuple[float | None, int, Any]] | None], k: int) -> TopKRows:
    """SGLang's nested form, a list of (log-prob, id, text) at each position, as arrays [R, k]."""
    n = len(listed)
    ids, logprobs = np.full((n, k), NO_TOKEN, np.int32), np.full((n, k), -np.inf, np.float32)
    if all(row is not None and len(row) == k for row in listed):
        flat = [entry for row in listed for entry in row]
        ids[:] = np.fromiter((entry[1] for entry in flat), np.int32, n * k).reshape(n, k)
        logprobs[:] = np.array([entry[0] for entry in flat], dtype=np.float32).reshape(n, k)
    else:
        for position, row in enumerate(listed):
            for place, entry in enumerate((row or ())[:k]):
                ids[position, place], logprobs[position, place] = entry[1], np.nan if entry[0] is None else entry[0]
    unknown = np.isnan(logprobs)
    ids[unknown], logprobs[unknown] = NO_TOKEN, -np.inf
    return TopKRows(ids, logprobs)


def _with_post(function: Callable[..., Awaitable[Any]], post: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """slime's generate with its global name `post` bound to ours, for this call alone: slime's module stays as it is.

    Raises RuntimeError where slime's generate is no longer a plain function that calls a global `post`.
    """
    plain = inspect.iscoroutinefunction(function) and not hasattr(function, "__wrapped__")
    if not plain or "post" not in function.__code__.co_names or "post" not in function.__globals__:
        raise RuntimeError(
            "slime's generate does not call a global `post`; this patch does not know this version of slime"
        )
    bound = FunctionType(
        function.__code__, {**function.__globals__, "post": post}, function.__name__, function.__defaults__
    )
    bound.__kwdefaults__ = function.__kwdefaults__
    return bound
