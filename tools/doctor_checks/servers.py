"""The teacher's servers, each asked what a run would ask it: does a score mean what the run takes it for?"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from .result import FAIL, Result, failed, skipped
from .settings import Settings

_CLIENT_NEEDS = ("numpy", "torch", "aiohttp", "msgspec", "tenacity")


def check_servers(settings: Settings) -> Iterator[Result]:
    if settings.static:
        yield skipped("servers", "--static asks none", "give --servers without --static")
        return
    if settings.local_engine or not settings.urls:
        why = "BACKEND=local has none" if settings.local_engine else "none is named"
        yield skipped("servers", why, "start the teacher (launch/start_teacher.sh) and give --servers URL")
        return
    missing = [name for name in _CLIENT_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        fix = "pip install -r slime_patch/ta_opd/requirements.txt"
        yield failed("teacher client", f"{', '.join(missing)} cannot be imported", fix)
        return
    yield from _ask(settings)


def _ask(settings: Settings) -> Iterator[Result]:
    """Everything below imports torch and the client."""
    from ta_opd.teacher.answer import TeacherFault

    from .score_checks import compare_replicas
    from .server_checks import CHECKS, FIRST, Check
    from .teacher_session import TeacherSession

    def run(name: str, check: Check, session: TeacherSession) -> Result:
        try:
            return check(session, settings)
        except TeacherFault as fault:
            return failed(name, str(fault), "see the server's log; a run would lose these samples")

    sessions = [TeacherSession(url, settings.timeout, settings.concurrency) for url in settings.urls]
    working = []
    for session in sessions:
        where = "" if len(sessions) == 1 else session.url.removeprefix("http://").removesuffix("/generate") + ": "
        for name, check in FIRST.items():
            result = run(name, check, session)
            yield result.at(where)
            if result.status == FAIL:
                told = f"{len(CHECKS)} checks were not made: {name} failed"
                yield skipped("scores", told, "make that pass first").at(where)
                break
        else:
            working.append(session)
            for name, check in CHECKS.items():
                yield run(name, check, session).at(where)
    if len(working) > 1:
        yield run("replicas agree", lambda session, settings: compare_replicas(working), working[0])
