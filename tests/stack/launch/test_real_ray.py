"""The launchers with the real Ray of SLIME_PYTHON's environment; training and the teacher are stand-ins.

Without SLIME_PYTHON they are skipped; `make test-slime` sets it.
"""

import os
import tempfile
from pathlib import Path

import pytest

PYTHON = os.environ.get("SLIME_PYTHON", "")
RAY = str(Path(PYTHON).parent / "ray")
RUN = "teachability-0.10-seed42"
REASON = "needs the real Ray: SLIME_PYTHON=python of an environment that has it (make test-slime)"
pytestmark = pytest.mark.skipif(not PYTHON, reason=REASON)


@pytest.fixture
def settings():
    # A busy machine takes longer than Ray waits for its own parts.
    patience = {"RAY_raylet_start_wait_time_s": "240", "RAY_agent_register_timeout_ms": "240000"}
    # Short: Ray puts sockets there.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as place:
        yield {
            "RAY_COMMAND": RAY,
            "RAY_TEMP_DIR": place,
            "METHOD_LIST": "teachability:0.10:1",
            "LAUNCH_POLL_SECONDS": "0.5",
            **patience,
        }


def test_a_job_trains_under_a_head_of_our_own_that_ends_with_it(suite, settings):
    code, printed = suite.run(timeout=500, **settings)
    assert code == 0, printed
    assert suite.rollouts(RUN) == [0, 1, 2, 3, 4, 5]
    (train,) = suite.journal("train")
    assert train["cuda"] == "1,2"
    assert train["path"].split(":")[0] == suite.environment["SLIME_DIR"]
    assert suite.alive() == {}


def test_a_failed_job_is_a_failed_run(suite, settings):
    suite.order("train_crashes", 1)
    code, printed = suite.run(timeout=500, **settings)
    assert code == 1
    assert "train failed: Ray's job" in printed and "loss is not finite, says the stand-in" in printed
    assert suite.alive() == {}


def test_after_sigkill_the_next_call_ends_ray_and_its_jobs_and_goes_on(suite, settings):
    suite.order("step_seconds", 1)
    first = suite.launch(**settings)
    suite.wait_for(lambda: len(suite.rollouts(RUN)) > 3, first, seconds=400)
    first.kill()
    first.wait()
    first.stdout.close()
    left = suite.alive()
    assert any("raylet" in command for command in left.values()) and any("train.py" in c for c in left.values())
    suite.order("step_seconds", 0)
    code, printed = suite.run(timeout=500, **settings)
    assert code == 0, printed
    assert not set(left) & set(suite.alive())
    assert suite.rollouts(RUN)[-2:] == [4, 5]
