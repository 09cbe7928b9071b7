"""slime checkouts for the tests here, from SLIME_DIRS or SLIME_DIR, and SLIME_PYTHON to run them; else tests skip.

What a test wants to be in the compatibility table it hands to `record`; SLIME_RESULTS names the file, see table.py.
"""

import json
import os
from pathlib import Path

import pytest

from . import loop
from .checkouts import Checkout, checkouts
from .environment import megatron


def pytest_generate_tests(metafunc):
    if "checkout" in metafunc.fixturenames:
        reason = "needs slime checkouts and a Python that runs them: make test-slime SLIME_DIR=... (or SLIME_DIRS=A:B)"
        missing = pytest.param(None, marks=pytest.mark.skip(reason=reason), id="no SLIME_DIR")
        params = [pytest.param(found, id=found.name) for found in checkouts() if "SLIME_PYTHON" in os.environ]
        metafunc.parametrize("checkout", params or [missing], scope="session")


@pytest.fixture(scope="session")
def pristine(checkout, tmp_path_factory) -> Checkout:
    """A copy of the checkout as slime ships it; nobody changes it."""
    return checkout.copy(tmp_path_factory.mktemp("pristine"))


@pytest.fixture(scope="session")
def patched(checkout, tmp_path_factory) -> Checkout:
    """A copy with the patch installed."""
    copy = checkout.copy(tmp_path_factory.mktemp("patched"))
    copy.install("apply")
    return copy


@pytest.fixture
def with_hooks(patched) -> Checkout:
    """`patched`, of a slime that has the advantage hook."""
    if not patched.custom_advantage:
        pytest.skip(f"{patched.name} has no --custom-advantage-function-path: loss masks only")
    return patched


@pytest.fixture(scope="session")
def megatron_dir() -> Path:
    path = megatron()
    if path is None:
        pytest.skip("needs Megatron-LM with slime's megatron.patch: MEGATRON_DIR=...")
    return path


@pytest.fixture(scope="session")
def stack(megatron_dir):
    with loop.stack() as running:
        yield running


@pytest.fixture(scope="session")
def suite_checkout(patched, megatron_dir) -> Checkout:
    """`patched`, of a slime that the launchers can train with on the stack's servers."""
    for hook in ("--custom-advantage-function-path", "--update-weight-disk-dir"):
        if not patched.has(hook, "slime/utils/arguments.py"):
            pytest.skip(f"{patched.name} has no {hook}")
    return patched


@pytest.fixture
def record(checkout):
    """record(check, result, part): into a cell of the compatibility table, appended to the file SLIME_RESULTS names."""

    def write(check: str, result: str, part: str = "") -> None:
        target = os.environ.get("SLIME_RESULTS")
        if target:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            with Path(target).open("a", encoding="utf-8") as file:
                row = {"checkout": checkout.name, "check": check, "part": part, "result": result}
                file.write(json.dumps(row) + "\n")

    return write
