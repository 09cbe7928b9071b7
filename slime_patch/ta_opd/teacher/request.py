"""What is asked of a teacher about one sample, checked against what its server can take.

Axes: R response tokens of one sample, K entries of the teacher's list, K_S of the student's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..slime_options import SlimeOptions
from .answer import TeacherFault
from .exact_support import AskedIds, union_of
from .servers import ServerFacts
from .wire import Question

MOST_ASKED = 2**23
"""Log-probs at asked ids in one answer, positions x ids: some 200 MB of JSON, whatever the union may hold."""


@dataclass(frozen=True)
class ScoreRequest:
    """tokens: prompt + response ids, as the student saw them. response_length: R. top_k: K, the teacher's top-k asked
    for at each response token; 0 asks for the sampled log-probs only. student_ids: int32 [R, K_S], where to ask
    log p_T (exact C), -1 entries skipped. url: this sample's own teacher; None takes the least loaded of the client's.
    image_data: encoded images of a multimodal sample. label: names the sample in messages and in the quarantine file.
    """

    tokens: Sequence[int]
    response_length: int
    top_k: int
    student_ids: NDArray[np.int32] | None = None
    url: str | None = None
    image_data: Sequence[str] = ()
    label: str = ""


def question_for(request: ScoreRequest, facts: ServerFacts, options: SlimeOptions) -> Question:
    """The question to put to this server.

    Raises TeacherFault for what it cannot take: "no_prompt", "too_long", "out_of_vocabulary", "union_overflow".
    """
    tokens = np.asarray(request.tokens, np.int64)
    if request.response_length == len(tokens):
        raise TeacherFault("no_prompt", "the first response token has nothing before it")
    if facts.context_length is not None and len(tokens) > facts.context_length:
        raise TeacherFault("too_long", f"{len(tokens)} tokens; the server takes {facts.context_length}")
    outside = (tokens < 0) | (tokens >= facts.vocabulary)
    if outside.any():
        first = int(np.argmax(outside))
        known = f"0..{facts.vocabulary - 1}"
        raise TeacherFault("out_of_vocabulary", f"token {first} is {tokens[first]}; the teacher has {known}")
    union = AskedIds(np.empty(0, np.int32), overflowed=False)
    if request.student_ids is not None:
        most = min(options.exact_cmass_max_union, max(1, MOST_ASKED // max(request.response_length, 1)))
        overflow = options.exact_cmass_overflow
        union = union_of(request.student_ids, facts.vocabulary, most, overflow)
        if union.overflowed and overflow == "error":
            raise TeacherFault("union_overflow", f"more than {most} ids (--opd-exact-cmass-max-union)")
    return Question(
        tokens,
        request.response_length,
        request.top_k,
        facts.vocabulary,
        student_ids=request.student_ids,
        asked_ids=union.ids,
        overflowed=union.overflowed,
        images=tuple(request.image_data),
        wire=options.teacher_wire,
    )
