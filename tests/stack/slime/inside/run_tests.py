"""Runs test files of the checkout in the current folder, each in its own process: run_tests.py RESULT.json FILES...

A fork of a process that already has torch takes a tenth of the time of a fresh interpreter. Nothing else is imported
before the fork: slime's tests put stand-ins for ray and megatron into sys.modules only where those are not loaded yet.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy  # noqa: F401
import pytest
import torch  # noqa: F401

LIMIT_S = int(os.environ.get("OPD_TEST_LIMIT_S", "600"))
WORST_FIRST = ("failed", "error", "skipped", "passed")


class Outcomes:
    """A pytest plugin: the worst outcome of each test's phases, and the errors of collection."""

    def __init__(self):
        self.found = {}

    def note(self, name, outcome):
        known = self.found.get(name, outcome)
        self.found[name] = min(known, outcome, key=WORST_FIRST.index)

    def pytest_runtest_logreport(self, report):
        outcome = "error" if report.failed and report.when != "call" else report.outcome
        self.note(report.nodeid, outcome)

    def pytest_collectreport(self, report):
        if not report.passed:
            self.note(report.nodeid, "error" if report.failed else report.outcome)


def run_here(file, result):
    """In the child: one file, its outcomes written to result."""
    os.setpgid(0, 0)
    sys.path.insert(0, str(Path.cwd()))
    outcomes = Outcomes()
    code = pytest.main(["-q", "-p", "no:cacheprovider", "--tb=short", file], plugins=[outcomes])
    Path(result).write_text(json.dumps(outcomes.found), encoding="utf-8")
    sys.stdout.flush()
    os._exit(int(code))


def run(file):
    """One file in a fork: its outcomes by test, or {file: what ended it}; its time goes to stderr."""
    started = time.monotonic()
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        child = os.fork()
        if child == 0:
            run_here(file, result.name)
        ended = wait(child, started + LIMIT_S)
        text = Path(result.name).read_text(encoding="utf-8")
    outcomes = json.loads(text) if text else {file: "crashed" if ended else f"not done in {LIMIT_S} s"}
    print(f"{file}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return outcomes


def wait(child, deadline):
    """True if the child ended by itself; whatever is left of its process group is killed."""
    ended = False
    while not ended and time.monotonic() < deadline:
        ended = os.waitpid(child, os.WNOHANG)[0] == child
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not ended:
        os.waitpid(child, 0)
    return ended


if __name__ == "__main__":
    target, *files = sys.argv[1:]
    Path(target).write_text(json.dumps({file: run(file) for file in files}), encoding="utf-8")
