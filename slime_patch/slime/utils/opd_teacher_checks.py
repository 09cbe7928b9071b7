"""Whether the teachers that a run names are there, are big enough, and share the student's tokenizer."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import urllib.error
import urllib.request
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from slime.rollout.tip_compat import teacher_urls
from ta_opd.option_fields import flag
from ta_opd.slime_options import SlimeOptions
from ta_opd.teacher.answer import TeacherFault
from ta_opd.teacher.client import TeacherClient
from ta_opd.teacher.servers import ServerFacts

logger = logging.getLogger(__name__)

_PROBE = "Let f(x) = 3x^2 - 7; then f'(2) = 12.\n\tNaïve café, 北京 2026: <b>1,024</b> ≠ 0.5e-3 🙂"
"""Text that different tokenizers cut differently: digits, spaces, accents, Chinese, an emoji, markup."""


def check_teachers(args: Namespace, options: SlimeOptions, tokenizer: Any) -> None:
    """Each teacher answers, takes responses as long as the run's, has at least K tokens, and cuts the same text into
    the same tokens as the student's tokenizer.

    Raises ValueError naming the URL and what it said. No token is generated.
    """
    urls = teacher_urls(args, options)
    if not urls:
        raise ValueError("OPD with --opd-type sglang needs the teacher's URL: --opd-teacher-url or --rm-url")
    expected = list(tokenizer.encode(_PROBE, add_special_tokens=False))
    for url in urls:
        found = _teacher_tokens(url, options.teacher_request_timeout)
        # A server may put its own first token before the text.
        if found[-len(expected) :] != expected:
            raise ValueError(
                f"the teacher at {url} does not share the student's tokenizer ({args.hf_checkpoint}): it reads a probe "
                f"text as {found[:8]}..., the student as {expected[:8]}..."
            )
    for facts in asyncio.run(_facts(urls, options)):
        _check_size(args, options, facts)
        logger.info(
            "teacher %s: SGLang %s, %s, %d tokens of vocabulary, %s of context",
            facts.url,
            facts.version or "of an unknown version",
            facts.model_path,
            facts.vocabulary,
            facts.context_length,
        )


def _check_size(args: Namespace, options: SlimeOptions, facts: ServerFacts) -> None:
    for name in ("topk_metrics_k", "loss_top_k"):
        if getattr(options, name) > facts.vocabulary:
            raise ValueError(
                f"{flag(name)} {getattr(options, name)} is above the vocabulary of the teacher at {facts.url}, "
                f"{facts.vocabulary}"
            )
    if facts.context_length is None:
        return
    for name in ("rollout_max_context_len", "rollout_max_response_len"):
        longest = getattr(args, name, None)
        if longest is not None and longest > facts.context_length:
            raise ValueError(
                f"--{name.replace('_', '-')} {longest}: the teacher at {facts.url} takes {facts.context_length} tokens"
            )


async def _facts(urls: Sequence[str], options: SlimeOptions) -> list[ServerFacts]:
    client = TeacherClient(options, urls)
    try:
        return [await client.server_facts(url) for url in urls]
    except TeacherFault as fault:
        raise ValueError(f"the teachers cannot be used: {fault}") from fault
    finally:
        await client.close()


def _teacher_tokens(url: str, timeout: float) -> Sequence[int]:
    body = {
        "text": _PROBE,
        "sampling_params": {"max_new_tokens": 0, "temperature": 1.0},
        "return_logprob": True,
        "logprob_start_len": 0,
    }
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=min(timeout, 60)) as answer:
            return [entry[1] for entry in json.load(answer)["meta_info"]["input_token_logprobs"]]
    except urllib.error.HTTPError as error:
        error.close()
        raise ValueError(
            f"the teacher at {url} answers HTTP {error.code}; --opd-teacher-url is its /generate"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"the teacher at {url} cannot be reached: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the teacher at {url} does not answer as an SGLang server: {error!r}") from error
