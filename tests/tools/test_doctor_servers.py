"""The doctor in front of servers that are wrong in one way each: what it says of them."""

import contextlib
import json
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import doctor
from doctor_checks import groups, server_checks, throughput

from .doctor_teacher import DoctorTeacher, serving

TOP_K = [f"input_top_logprobs{form}" for form in ("", "_val_flat", "_val_flat_b64")]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in doctor.VARIABLES:
        monkeypatch.delenv(name, raising=False)


def ask(capsys, urls, *more):
    """(exit code, {check: finding}) of the servers group."""
    flags = ["--only", "servers", "--json", "--concurrency", "8", "--timeout", "20", "--servers", *urls, *more]
    code = doctor.main(flags)
    printed = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    return code, {check["check"]: check for check in printed["checks"]}


def not_passing(checks):
    return {name: check["status"] for name, check in checks.items() if check["status"] not in ("pass", "skipped")}


def test_a_teacher_that_works_passes_everything(capsys):
    teacher = DoctorTeacher()
    with serving(teacher):
        code, checks = ask(capsys, [teacher.url])
    assert code == 0 and not_passing(checks) == {}
    assert list(checks) == [*server_checks.FIRST, *server_checks.CHECKS]
    assert checks["teacher against itself"]["numbers"]["kl_nats"] == pytest.approx(0, abs=1e-6)
    assert checks["repeats"]["numbers"] == {"alone_mean": 0, "alone_max": 0, "among_mean": 0, "among_max": 0}
    assert checks["temperature"]["numbers"]["nats"] == 0
    assert checks["prefix cache"]["numbers"]["cached"] == 511
    assert "base64, flat, nested" in checks["wire"]["found"]
    assert {name for name, check in checks.items() if check["status"] == "skipped"} == {"reads text"}


@pytest.mark.parametrize(
    "fault, statuses, check, words",
    [
        (
            {"shift": 1},
            {"teacher against itself": "fail", "top-k": "fail", "token-id log-probs": "warn"},
            "teacher against itself",
            "shifted by +1",
        ),
        (
            {"shift": -1},
            {"teacher against itself": "fail", "top-k": "fail", "token-id log-probs": "warn"},
            "teacher against itself",
            "shifted by -1",
        ),
        ({"list_shift": 1}, {"top-k": "fail"}, "top-k", "lists are shifted by +1"),
        ({"list_shift": -1}, {"top-k": "fail"}, "top-k", "lists are shifted by -1"),
        ({"uniform": True}, {"not uniform": "fail", "knows text": "warn"}, "not uniform", "as likely as any other"),
        ({"knows_text": False}, {"knows text": "warn"}, "knows text", "random"),
        ({"scored_at": 0.5}, {"teacher against itself": "fail"}, "teacher against itself", "temperature 0.50"),
        ({"scored_at": 2.0}, {"teacher against itself": "fail"}, "teacher against itself", "temperature 2.00"),
        ({"honours_temperature": True}, {"temperature": "warn"}, "temperature", "scales them"),
        (
            {"jitter": 0.5},
            {"teacher against itself": "fail", "repeats": "fail", "top-k": "fail", "token-id log-probs": "warn"},
            "repeats",
            "alone: mean 0.",
        ),
        ({"crowd_jitter": 0.5, "delay": 0.01}, {"repeats": "fail"}, "repeats", "alone: mean 0.00000"),
        ({"without": TOP_K}, {"top-k": "fail", "wire": "fail", "speed": "fail"}, "top-k", "not offered"),
        (
            {"without": ["input_token_ids_logprobs"]},
            {"token-id log-probs": "warn"},
            "token-id log-probs",
            "not offered",
        ),
        ({"caches": False}, {"prefix cache": "warn"}, "prefix cache", "0 of 512"),
        ({"version": "0.4.6"}, {"server version": "warn"}, "server version", "tested are 0.5.15.post1, 0.5.23"),
        ({"version": ""}, {"server version": "warn"}, "server version", "says ''"),
        ({"limit": 60}, {"context": "fail"}, "context", "59 tokens"),
        (
            {"impossible": True},
            {
                **dict.fromkeys(["teacher against itself", "not uniform", "repeats", "temperature", "top-k"], "fail"),
                "token-id log-probs": "warn",
            },
            "not uniform",
            "512 of 512 tokens of its own have no log-prob",
        ),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items())[:40] if isinstance(value, dict) else "",
)
def test_a_teacher_that_is_wrong_is_told_so_by_name(capsys, fault, statuses, check, words):
    teacher = DoctorTeacher(**fault)
    with serving(teacher):
        code, checks = ask(capsys, [teacher.url])
    found = not_passing(checks)
    assert statuses.items() <= found.items(), found
    if "limit" not in fault:
        assert found == statuses
    assert words in checks[check]["found"]
    assert code == ("fail" in statuses.values())
    assert all(one["fix"] for one in checks.values() if one["status"] != "pass")


@pytest.mark.parametrize("speedup, status", [(1.1, "warn"), (6.0, "pass")])
def test_a_server_that_does_not_count_cached_tokens_is_judged_by_its_time(capsys, monkeypatch, speedup, status):
    teacher = DoctorTeacher(counts_cache=False)
    measure = throughput.measure_cache
    monkeypatch.setattr(throughput, "measure_cache", lambda session: replace(measure(session), speedup=speedup))
    with serving(teacher):
        code, checks = ask(capsys, [teacher.url])
    assert code == 0 and checks["prefix cache"]["status"] == status
    assert "does not count" in checks["prefix cache"]["found"]


def test_token_ids_that_exact_c_needs_fail_where_they_are_missing(capsys):
    teacher = DoctorTeacher(without=["input_token_ids_logprobs"])
    with serving(teacher):
        code, checks = ask(capsys, [teacher.url], "--opd-exact-cmass", "1")
    assert code == 1 and not_passing(checks) == {"token-id log-probs": "fail"}


def test_a_slow_teacher_is_told_so_with_the_time_a_rollout_takes(capsys):
    teacher = DoctorTeacher(delay=0.02)
    with serving(teacher):
        code, checks = ask(capsys, [teacher.url], "--teacher-seconds", "0.01")
    assert code == 0 and not_passing(checks) == {"speed": "warn"}
    assert "slow" in checks["speed"]["found"] and checks["speed"]["numbers"]["rollout_seconds"] > 0.01


def test_a_server_that_answers_400_fails_and_nothing_else_is_claimed(capsys):
    teacher = DoctorTeacher(status=400, tells_vocabulary=False)
    with serving(teacher):
        code, checks = ask(capsys, [teacher.url])
    assert code == 1
    assert {name: check["status"] for name, check in checks.items()} == {"reachable": "fail", "scores": "skipped"}
    assert "vocabulary_unknown" in checks["reachable"]["found"]


def test_generation_that_is_refused_fails_at_sampling(capsys):
    teacher = DoctorTeacher(without=["output_token_logprobs"])
    with serving(teacher):
        code, checks = ask(capsys, [teacher.url])
    assert code == 1 and checks["sampling"]["status"] == "fail" and checks["scores"]["status"] == "skipped"
    assert "output_token_logprobs" in checks["sampling"]["found"]


def test_nobody_at_the_address_is_one_failure(capsys):
    with contextlib.closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        code, checks = ask(capsys, [f"http://127.0.0.1:{nobody.getsockname()[1]}"])
    assert code == 1 and checks["reachable"]["status"] == "fail" and "start the teacher" in checks["reachable"]["fix"]


@pytest.mark.parametrize("other, status", [(0, "pass"), (1, "fail")])
def test_replicas_with_other_weights_are_found(capsys, other, status):
    first, second = DoctorTeacher(), DoctorTeacher()
    second.table = second.table[::-1].copy() if other else second.table
    with serving(first, second):
        code, checks = ask(capsys, [first.url, second.url])
    assert checks["replicas agree"]["status"] == status and code == other


def test_a_missing_client_library_is_a_finding(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "msgspec" else object())
    code, checks = ask(capsys, ["http://127.0.0.1:1"])
    assert code == 1 and checks["teacher client"]["found"] == "msgspec cannot be imported"


def test_static_asks_no_server(capsys, monkeypatch):
    monkeypatch.setenv("TEACHER_URL", "http://127.0.0.1:1")
    assert doctor.main(["--static", "--only", "servers", "--json"]) == 0
    (check,) = json.loads(capsys.readouterr().out)["checks"]
    assert check["status"] == "skipped" and "--static" in check["found"]


def test_an_error_that_no_check_expects_is_not_swallowed(capsys, monkeypatch):
    monkeypatch.setitem(groups.GROUPS, "servers", lambda settings: iter([1 / 0]))
    with pytest.raises(ZeroDivisionError):
        doctor.main(["--only", "servers"])
