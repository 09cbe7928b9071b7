"""Bytes between slime and the teacher.

The sizes are those of the bodies that benchmarks/teacher_client.py serves: random ids of a vocabulary of 151,936,
float32 log-probs; a test measures them again. Axes: R response tokens of a sample, K entries of the teacher's list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ta_opd.loss_plan import asked_of_teacher
from ta_opd.slime_options import SlimeOptions

from .units import size

SENT_A_TOKEN = 6.3
"""A token id and a comma."""

SAMPLED_A_TOKEN = 33.1
"""[log-prob, id, null] of the sampled token: JSON in every form."""

AN_ENTRY = {"nested": 32.6, "flat": 25.5, "base64": 32 / 3}
"""An entry of the top-k: JSON triples, two flat JSON lists, or 8 bytes in base64."""

_OFFERED = {"nested": "every SGLang", "flat": "SGLang 0.5.23", "base64": "SGLang 0.5.23"}


def received(response: int, k: int, wire: str) -> float:
    """Bytes of one answer of R = response tokens; k 0: the sampled log-probs alone."""
    return response * (SAMPLED_A_TOKEN + k * AN_ENTRY[wire])


def traffic_rows(v: Mapping[str, str], options: SlimeOptions) -> Iterator[str]:
    samples = int(v["ROLLOUT_BATCH_SIZE"]) * int(v["N_SAMPLES_PER_PROMPT"])
    longest, k = int(v["ROLLOUT_MAX_RESPONSE_LEN"]), asked_of_teacher(options)
    yield f"{samples:,} requests, one a sample; at most {options.teacher_concurrency} under way at each teacher"
    prompt = v["ROLLOUT_MAX_PROMPT_LEN"]
    total = samples * SENT_A_TOKEN * (longest + int(prompt or 0))
    if prompt:
        yield f"sent: at most {size(total)}, {SENT_A_TOKEN} bytes a token of prompt and response"
    else:
        yield (
            f"sent: at most {size(total)} for the responses and {SENT_A_TOKEN} bytes a token of the prompts, whose "
            "length is not known (ROLLOUT_MAX_PROMPT_LEN)"
        )
    wires = ("base64", "nested") if options.teacher_wire == "auto" else (options.teacher_wire,)
    for wire in wires if k else ("nested",):
        each = received(1, k, wire)
        yield (
            f"received, {wire} ({_OFFERED[wire]}): at most {size(samples * received(longest, k, wire))}, "
            f"{each:,.0f} bytes a response token at K = {k}"
        )
    if options.exact_cmass:
        yield (
            f"exact C: {AN_ENTRY['nested']} bytes more a response token for each id that a sample's student lists "
            f"have together; how many is not known, at most {options.exact_cmass_max_union:,}"
        )
    yield "assumed: responses of full length; retries and HTTP headers are not in it"
