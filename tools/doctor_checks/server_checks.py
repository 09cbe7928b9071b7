"""The checks of one teacher, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Callable

from . import score_checks, serving_checks
from .result import Result
from .settings import Settings
from .teacher_session import TeacherSession

Check = Callable[[TeacherSession, Settings], Result]

FIRST: dict[str, Check] = {
    "reachable": serving_checks.check_reachable,
    "sampling": serving_checks.check_sampling,
}
"""Where one of these fails nothing else can be asked."""

CHECKS: dict[str, Check] = {
    "server version": serving_checks.check_version,
    "model": serving_checks.check_model,
    "context": serving_checks.check_context,
    "reads text": serving_checks.check_reads_text,
    "teacher against itself": score_checks.check_self_kl,
    "not uniform": score_checks.check_not_uniform,
    "knows text": score_checks.check_knows_text,
    "repeats": score_checks.check_stable,
    "temperature": score_checks.check_temperature,
    "top-k": score_checks.check_top_k,
    "token-id log-probs": score_checks.check_token_ids,
    "wire": serving_checks.check_wire,
    "prefix cache": serving_checks.check_prefix_cache,
    "speed": serving_checks.check_speed,
}
