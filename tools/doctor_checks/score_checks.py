"""What a teacher's log-probs are worth: each check returns one finding or raises TeacherFault.

Tolerances are of bf16 servers: prefill, decode and every batch size sum in another order, some hundredths of a nat at a
token and far less in the mean.
"""

from __future__ import annotations

import math

import numpy as np
from ta_opd.teacher.answer import TeacherFault
from ta_opd.teacher.request import ScoreRequest

from . import scoring
from .result import Result, failed, passed, warned
from .settings import Settings
from .teacher_session import TeacherSession, list_length

SELF_KL_WARN, SELF_KL_FAIL = 0.01, 0.05
"""Nats a token, of the mean."""
GAP_WARN, GAP_FAIL = 0.05, 0.2
"""Nats, of the mean size of differences."""
JITTER_WARN, JITTER_FAIL = 0.03, 0.1
"""Nats, of the mean size of differences between repeats."""
NEARLY_UNIFORM = 0.9
"""Share of log V from which a teacher's entropy is that of no language model."""
KNOWS_TEXT = 0.75
"""Share of log V above which plain English costs too much."""
_SLOPE = 0.05
"""Of 1/T from 1, below which the temperature is not the reason."""
_REPEATS = 3
_OTHERS = 16
_BROKEN = "look at the server's weights and quantisation: --model-path, --load-format, its log"


def check_self_kl(session: TeacherSession, settings: Settings) -> Result:
    """The mean of log-prob as sampled less log-prob as scored is KL(teacher||itself) over its own samples."""
    check = "teacher against itself"
    scored = [answer.signal.logprobs for answer in session.score(sample.request() for sample in session.samples)]
    pairs = [(sample.generated, scores) for sample, scores in zip(session.samples, scored, strict=True)]
    gap = scoring.difference(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
    found = (
        f"KL {gap.mean:+.5f} nats a token (standard error {gap.error:.5f}); a token differs by {gap.size:.4f} in the "
        f"mean, {gap.greatest:.3f} at most"
    )
    numbers = {"kl_nats": gap.mean, "mean_size_nats": gap.size, "greatest_nats": gap.greatest, "error_nats": gap.error}
    beyond = max(0.0, abs(gap.mean) - 2 * gap.error) if math.isfinite(gap.mean) else math.inf
    if gap.size > GAP_FAIL or beyond > SELF_KL_FAIL:
        why, fix = _why_not_itself(session, settings, pairs)
        return failed(check, f"{found}{why}", fix, **numbers)
    if gap.size > GAP_WARN or beyond > SELF_KL_WARN:
        fix = "a mixture of experts or an 8-bit cache can do this; every reverse KL of the run carries it"
        return warned(check, found, fix, **numbers)
    return passed(check, found, **numbers)


def _why_not_itself(session: TeacherSession, settings: Settings, pairs: list) -> tuple[str, str]:
    """What the difference looks like, and what to do."""
    shift = scoring.shift_of_numbers(pairs)
    if shift:
        fix = "a server or a proxy in between that moves positions: this teacher cannot be used"
        return f"; the scores are shifted by {shift:+d}: what stands at position t{shift:+d} is token t's", fix
    slope = _slope(session, settings)
    if slope is None or abs(slope - 1) <= _SLOPE:
        return "", _BROKEN
    fix = "the server must score at temperature 1: see its sampling defaults and patches"
    if slope <= 0:
        return "; the scores do not rank tokens as it samples them", fix
    return f"; the scores look like temperature {1 / slope:.2f}", fix


def _slope(session: TeacherSession, settings: Settings) -> float | None:
    try:
        answers = session.score(sample.request(top_k=list_length(session, settings)) for sample in session.samples)
    except TeacherFault:
        return None
    pairs = []
    for sample, answer in zip(session.samples, answers, strict=True):
        for ours, ids, values in zip(sample.lists, answer.signal.topk.ids, answer.signal.topk.logprobs, strict=True):
            pairs.append((ours, dict(zip(ids.tolist(), values.tolist(), strict=True))))
    return scoring.inverse_temperature(pairs)


def check_not_uniform(session: TeacherSession, settings: Settings) -> Result:
    check, vocabulary = "not uniform", session.facts.vocabulary
    answers = session.score(sample.request() for sample in session.samples)
    scores = np.concatenate([answer.signal.logprobs for answer in answers]).astype(np.float64)
    if not np.isfinite(scores).all():
        lost = int((~np.isfinite(scores)).sum())
        return failed(check, f"{lost} of {len(scores)} tokens of its own have no log-prob", _BROKEN, lost=lost)
    share = scoring.share_of_uniform(scores, vocabulary)
    found = f"{-scores.mean():.2f} nats a token of its own, log V is {math.log(vocabulary):.2f}"
    numbers = {"entropy_nats": -scores.mean(), "share_of_uniform": share}
    if share >= NEARLY_UNIFORM or scores.std() < scoring.SAME:
        return failed(check, f"{found}: nearly every token is as likely as any other", _BROKEN, **numbers)
    return passed(check, found, **numbers)


def check_knows_text(session: TeacherSession, settings: Settings) -> Result:
    check, vocabulary = "knows text", session.facts.vocabulary
    cost = float(np.concatenate([sample.text_cost for sample in session.samples]).mean())
    found = f"plain English costs {cost:.2f} nats a token, a uniform guess {math.log(vocabulary):.2f}"
    if cost > KNOWS_TEXT * math.log(vocabulary):
        return warned(check, f"{found}: the weights look random", _BROKEN, nats=cost)
    return passed(check, found, nats=cost)


def check_stable(session: TeacherSession, settings: Settings) -> Result:
    requests = [sample.request() for sample in session.samples]
    first, *repeats = (_scores(session.score(requests)) for _ in range(_REPEATS))
    others = [_other(session) for _ in range(_OTHERS)]
    crowded = _scores(session.score(requests + others, at_once=len(requests) + _OTHERS)[: len(requests)])
    alone = scoring.difference(np.concatenate([first] * len(repeats)), np.concatenate(repeats))
    among = scoring.difference(first, crowded)
    found = (
        f"repeats alone: mean {alone.size:.5f}, at most {alone.greatest:.4f} nats; among {_OTHERS} other requests: "
        f"mean {among.size:.5f}, at most {among.greatest:.4f}"
    )
    numbers = {
        "alone_mean": alone.size,
        "alone_max": alone.greatest,
        "among_mean": among.size,
        "among_max": among.greatest,
    }
    worst = max(alone.size, among.size)
    if worst > JITTER_FAIL:
        return failed(
            "repeats", found, "a score of this server is noise: see its log, its kernels, its patches", **numbers
        )
    if worst > JITTER_WARN:
        return warned("repeats", found, "SGLang's --enable-deterministic-inference, if you can pay for it", **numbers)
    return passed("repeats", found, **numbers)


def check_temperature(session: TeacherSession, settings: Settings) -> Result:
    requests = [sample.request() for sample in session.samples]
    one, again, half = (_scores(session.score(requests, temperature=t)) for t in (1.0, 1.0, 0.5))
    gap, noise = scoring.difference(one, half), scoring.difference(one, again)
    found = f"scores asked at temperature 0.5 differ from those at 1 by {gap.size:.5f} nats in the mean"
    if math.isinf(noise.size):
        return failed("temperature", "tokens without a log-prob", _BROKEN)
    if gap.size > max(JITTER_WARN, 3 * noise.size):
        fix = "harmless while all ask at temperature 1, as our client does; no other tool may ask otherwise"
        return warned("temperature", f"{found}: this server scales them, as SGLang does not", fix, nats=gap.size)
    return passed("temperature", f"{found}: always at temperature 1, as assumed", nats=gap.size)


def check_top_k(session: TeacherSession, settings: Settings) -> Result:
    check, k = "top-k", list_length(session, settings)
    try:
        answers = session.score(sample.request(top_k=k) for sample in session.samples)
    except TeacherFault as fault:
        return failed(check, f"not offered: {fault}", "token selection reads it: use a supported SGLang")
    found = []
    for sample, answer in zip(session.samples, answers, strict=True):
        lists = answer.signal.topk
        if (lists.ids == -1).all():
            return failed(check, "not offered: the lists are empty", "token selection reads it: use a supported SGLang")
        tokens, full = np.array(sample.response), k >= session.facts.vocabulary
        found.append(scoring.alignment(tokens, answer.signal.logprobs, lists.ids, lists.logprobs, full))
    wrong, listed = sum(one.wrong for one in found), float(np.mean([one.listed for one in found]))
    shifts = [one.shift for one in found if one.shift]
    if wrong:
        told = f"K = {k}: {wrong} tokens whose list does not fit their own log-prob"
        if len(shifts) > len(found) / 2:
            told += f"; the lists are shifted by {shifts[0]:+d}: what stands at position t{shifts[0]:+d} is token t's"
        return failed(
            check, told, "a server or a proxy in between that moves positions: it cannot be used", wrong=wrong
        )
    return passed(check, f"K = {k}, aligned; {listed:.0%} of its own tokens are listed", listed=listed)


def check_token_ids(session: TeacherSession, settings: Settings) -> Result:
    check, needed = "token-id log-probs", settings.is_on("OPD_EXACT_CMASS")
    answer_with = failed if needed else warned
    fix = "exact C (OPD_EXACT_CMASS) reads them: leave it off, or use a supported SGLang"
    gaps = []
    try:
        for sample in session.samples[:2]:
            ids = np.array(sample.response, np.int32)[:, None]
            (answer,) = session.score([sample.request(student_ids=ids)])
            assert answer.signal.on_student is not None
            gaps.append(scoring.difference(answer.signal.on_student[:, 0], answer.signal.logprobs).greatest)
    except TeacherFault as fault:
        return answer_with(check, f"not offered: {fault}", fix)
    if max(gaps) > scoring.SAME:
        return answer_with(check, f"they differ from the tokens' own log-probs by up to {max(gaps):.3f} nats", fix)
    return passed(check, f"aligned; they differ from the tokens' own by {max(gaps):.5f} nats at most")


def compare_replicas(sessions: list[TeacherSession]) -> Result:
    """All servers score the first one's samples."""
    requests = [sample.request() for sample in sessions[0].samples]
    first, *others = (_scores(session.score(requests)) for session in sessions)
    gaps = [scoring.difference(first, other).size for other in others]
    found = (
        f"the other {len(others)} differ from the first by {', '.join(f'{gap:.5f}' for gap in gaps)} nats in the mean"
    )
    if max(gaps) > JITTER_FAIL:
        return failed("replicas agree", found, "the servers do not serve the same weights", greatest=max(gaps))
    return passed("replicas agree", found, greatest=max(gaps))


def _scores(answers: list) -> np.ndarray:
    return np.concatenate([answer.signal.logprobs for answer in answers])


def _other(session: TeacherSession):
    """A request that only fills the batch."""
    return ScoreRequest(session.fresh_prompt(96), 64, 0)
