"""SIGKILL to the suite at any moment: the next call ends what was left running, repeats nothing that was saved, and
loses nothing. INT and TERM leave nothing running by themselves."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

RUNS = ("teachability-0.10-seed42", "random-0.10-seed42")
LAST = 5

# What must have happened before the suite is killed; the seeded delay after it lets the kill fall anywhere.
MOMENTS = {
    "the teacher starts": lambda suite: suite.journal("teacher"),
    "Ray starts": lambda suite: suite.journal("ray"),
    "the first rollout": lambda suite: suite.journal("rollout"),
    "past a checkpoint": lambda suite: len(suite.rollouts(RUNS[0])) > 3,
    "the merge": lambda suite: ("merge", "start") in suite.states(RUNS[0]),
    "the second run": lambda suite: suite.rollouts(RUNS[1]),
}


def check_training(events):
    """One start at a time, and each goes on after the last checkpoint: nothing that was saved is trained again, nothing
    is left out. A kill between "saving" and "saved" leaves two checkpoints possible."""
    starts, rollout, saved = [], None, {-1}
    for event in events:
        if event["what"] == "rollout" and event["pid"] not in starts:
            assert event["rollout"] - 1 in saved, events
            starts.append(event["pid"])
            saved = {event["rollout"] - 1}
        else:
            assert event["pid"] == starts[-1], ("two trainings at once", events)
            assert event["rollout"] == rollout + (event["what"] == "rollout"), events
        rollout = event["rollout"]
        if event["what"] == "saving":
            saved.add(rollout)
        elif event["what"] == "saved":
            saved = {rollout}
    assert saved == {LAST}, events


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_suite_killed_at_any_moment_is_finished_by_the_next_call(suite, moment):
    delay = random.Random(moment).uniform(0, 0.4)
    suite.order("step_seconds", 0.05)
    first = suite.launch()
    suite.wait_for(lambda: MOMENTS[moment](suite), first)
    time.sleep(delay)
    first.kill()
    first.wait()
    first.stdout.close()
    code, printed = suite.run()
    assert code == 0, printed
    for run in RUNS:
        check_training(suite.training(run))
        assert suite.states(run).count(("done", "ok")) == 1
        assert suite.states(run).count(("train", "ok")) == 1
        assert not (suite.directory / "runs" / run / "processes.tsv").exists()
    assert len(suite.journal("train")) <= len(RUNS) + 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_an_interrupted_suite_ends_everything_it_started_and_goes_on_when_called_again(suite, number):
    suite.order("step_seconds", 0.1)
    first = suite.launch(METHOD_LIST="teachability:0.10:1")
    suite.wait_for(lambda: len(suite.rollouts(RUNS[0])) > 2, first)
    first.send_signal(number)
    printed, _ = first.communicate(timeout=300)
    assert first.returncode == 128 + number, printed
    assert suite.alive() == {}
    assert not (suite.directory / "runs" / RUNS[0] / "processes.tsv").exists()
    code, printed = suite.run(METHOD_LIST="teachability:0.10:1")
    assert code == 0, printed
    check_training(suite.training(RUNS[0]))


def test_other_peoples_processes_are_left_alone(suite):
    """Processes of the same names, and one whose id stands in the records with another start time."""
    environment = os.environ | {"STAND_IN_DIR": "somebody else's"}
    others = [
        subprocess.Popen(["bash", "-c", f"exec -a '{name}' sleep 300"], env=environment, start_new_session=True)
        for name in ("sglang::scheduler", "raylet", "python -m sglang.launch_server", "ray::IDLE")
    ]
    records = suite.directory / "runs" / RUNS[0] / "processes.tsv"
    records.parent.mkdir(parents=True)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    lines = [f"teacher-0\t{other.pid}\t12345\t{boot}\t{os.uname().nodename}\tno-such-token" for other in others]
    records.write_text("\n".join([*lines, "a torn li"]))
    try:
        suite.order("step_seconds", 0.1)
        first = suite.launch(METHOD_LIST="teachability:0.10:1")
        suite.wait_for(lambda: len(suite.rollouts(RUNS[0])) > 2, first)
        first.kill()
        first.wait()
        first.stdout.close()
        code, printed = suite.run(METHOD_LIST="teachability:0.10:1")
        assert code == 0, printed
        assert [other.poll() for other in others] == [None] * len(others)
    finally:
        for other in others:
            other.kill()
            other.wait()
