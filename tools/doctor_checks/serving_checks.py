"""What a teacher's server is and offers: version, model, context, forms of answers, prefix cache, speed.

Each check returns one finding or raises TeacherFault.
"""

from __future__ import annotations

import math
from pathlib import Path

from ta_opd.teacher.answer import TeacherFault

from . import throughput
from .model_files import BrokenFile
from .patch import slime_version
from .result import Result, failed, passed, skipped, warned
from .settings import Settings
from .teacher_session import TeacherSession, list_length
from .tokenizer_files import MissingLibrary, load_tokenizer
from .tokenizers import PROBES
from .versions import judge, supported


def check_reachable(session: TeacherSession, settings: Settings) -> Result:
    try:
        facts = session.facts
    except TeacherFault as fault:
        return failed("reachable", f"{session.url}: {fault}", "start the teacher: launch/start_teacher.sh")
    context = "unknown" if facts.context_length is None else f"{facts.context_length:,} tokens"
    found = f"SGLang {facts.version or '?'}, {facts.model_path or '?'}, context {context}, {facts.vocabulary:,} ids"
    return passed("reachable", found, vocabulary=facts.vocabulary, context=facts.context_length or math.nan)


def check_sampling(session: TeacherSession, settings: Settings) -> Result:
    tokens = sum(len(sample.generated) for sample in session.samples)
    return passed("sampling", f"{len(session.samples)} responses of its own, {tokens} tokens at temperature 1")


def check_version(session: TeacherSession, settings: Settings) -> Result:
    version = session.facts.version
    if not version[:1].isdigit():
        return warned("server version", f"the server says {version!r}", "see that it is a supported SGLang")
    return judge("server version", version, supported()["packages"]["sglang"], slime_version(settings))


def check_model(session: TeacherSession, settings: Settings) -> Result:
    served, named = session.facts.model_path, settings.model("TEACHER_MODEL")
    if named is None:
        return passed("model", f"{served or 'not told'}; TEACHER_MODEL names none to compare")
    if Path(served).absolute() != named.absolute() and served != str(named):
        return warned(
            "model", f"{served or 'not told'}, but TEACHER_MODEL is {named}", "see that it is the same teacher"
        )
    return passed("model", served)


def check_context(session: TeacherSession, settings: Settings) -> Result:
    context, longest = session.facts.context_length, settings.number("ROLLOUT_MAX_RESPONSE_LEN")
    if context is None:
        return warned("context", "the server does not say", "see that prompt and response fit")
    if context <= longest:
        found = f"{context:,} tokens for prompts and responses of {longest:,}"
        return failed("context", found, "TEACHER_CONTEXT_LENGTH, or a smaller ROLLOUT_MAX_RESPONSE_LEN")
    return passed("context", f"{context:,} tokens: {context - longest:,} are left for a prompt")


def check_reads_text(session: TeacherSession, settings: Settings) -> Result:
    check, path = "reads text", settings.model("STUDENT_HF")
    if path is None or not path.is_dir():
        return skipped(check, "no local STUDENT_HF to compare with", "set STUDENT_HF")
    try:
        tokenizer = load_tokenizer(path)
    except (MissingLibrary, BrokenFile) as error:
        return skipped(check, str(error), "make the tokenizer checks pass first")
    for probe in PROBES:
        expected = tokenizer.encode(probe, add_special_tokens=False)
        found = session.text_ids(probe)
        if found[-len(expected) :] != expected:  # a server may put its own first token before the text
            told = f"{probe[:24]!r}... is {found[:6]}... to the teacher, {expected[:6]}... to the student"
            return failed(check, told, "a teacher that shares the student's tokenizer")
    return passed(check, f"{len(PROBES)} probe texts as the student does")


def check_wire(session: TeacherSession, settings: Settings) -> Result:
    request = session.samples[0].request(top_k=list_length(session, settings))
    forms = list(dict.fromkeys(session.ask_wire(request, wire) for wire in ("base64", "flat", "nested")))
    more = "" if "base64" in forms else "; SGLang 0.5.23 has compact ones, five times less work for the client"
    return passed("wire", f"{', '.join(forms)}{more}")


def check_prefix_cache(session: TeacherSession, settings: Settings) -> Result:
    check, cache = "prefix cache", throughput.measure_cache(session)
    fix = "start the server without --disable-radix-cache; without it each response prefills its prompt again"
    speed = f"a prompt's second response took 1/{cache.speedup:.1f} of the first's time"
    if cache.cached is None:
        if cache.speedup > 1.5:
            return passed(check, f"the server does not count, but {speed}")
        return warned(check, f"the server does not count cached tokens, and {speed}", fix)
    found = f"{cache.cached} of {cache.prompt} prompt tokens were cached for the second response; {speed}"
    if cache.cached < cache.prompt // 2:
        return warned(check, found, fix, cached=cache.cached)
    return passed(check, found, cached=cache.cached, speedup=cache.speedup)


def check_speed(session: TeacherSession, settings: Settings) -> Result:
    length = settings.number("ROLLOUT_MAX_RESPONSE_LEN")
    requests = max(4, min(settings.responses, 4 * settings.concurrency))
    speed = throughput.measure(session, length, requests, settings.number("OPD_TOPK_METRICS_K"))
    teachers = len(settings.urls)
    rollout = settings.response_tokens / (speed.rate * teachers)
    found = (
        f"{speed.rate:,.0f} response tokens a second ({speed.requests} requests of {speed.length}, at most "
        f"{settings.concurrency} at once, the median {speed.request_seconds:.2f} s); a rollout of {settings.responses} "
        f"responses of {length} takes {teachers} such teacher(s) about {rollout:.1f} s"
    )
    numbers = {"tokens_per_second": speed.rate, "rollout_seconds": rollout, "request_seconds": speed.request_seconds}
    if rollout > settings.teacher_seconds:
        fix = f"more TEACHER_REPLICAS or TEACHER_TP, a smaller K; {settings.teacher_seconds:g} s is --teacher-seconds"
        return warned("speed", f"{found}: slow", fix, **numbers)
    return passed("speed", found, **numbers)
