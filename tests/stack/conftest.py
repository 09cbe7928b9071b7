"""Real SGLang servers, one for each interpreter that SGLANG_PYTHON names (several: separated like PATH).

Without it the tests that need a server are skipped; with it a server that does not come up is a failure.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .sglang.server import SglangServer


def pytest_generate_tests(metafunc):
    if "sglang" in metafunc.fixturenames:
        metafunc.parametrize("sglang", _interpreters(), indirect=True, scope="session", ids=_environment_name)


def _interpreters():
    named = [python for python in os.environ.get("SGLANG_PYTHON", "").split(os.pathsep) if python]
    if named:
        return named
    reason = "needs the real SGLang: make test-sglang, or SGLANG_PYTHON=python of a virtual environment that has it"
    return [pytest.param("", marks=pytest.mark.skip(reason=reason), id="no SGLANG_PYTHON")]


def _environment_name(python):
    return Path(python).parents[1].name


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """{"student": checkpoint, "teacher": checkpoint}"""
    pytest.importorskip("transformers")
    from .sglang.tiny_models import write_tiny_models

    return write_tiny_models(tmp_path_factory.mktemp("tiny_models"))


@pytest.fixture(scope="session")
def fleet(tiny_models, tmp_path_factory):
    """A teacher for each interpreter. All are launched at once, since each takes most of its start to import."""
    logs = tmp_path_factory.mktemp("sglang_logs")
    servers = {
        python: SglangServer(python, tiny_models["teacher"], logs / f"{i}.log")
        for i, python in enumerate(_interpreters())
    }
    try:
        for server in servers.values():
            server.launch()
        yield servers
    finally:
        for server in servers.values():
            server.kill()


@pytest.fixture(scope="session")
def sglang(fleet, request):
    """A teacher that answers."""
    server = fleet[request.param]
    server.wait_until_ready()
    return server
