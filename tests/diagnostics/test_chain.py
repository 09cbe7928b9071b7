"""Steps of the drivers: side by side, once each, and none left behind."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

CHAIN = Path(__file__).resolve().parents[2] / "diagnostics/lib/chain.sh"


@pytest.fixture
def chain(tmp_path):
    """Starts a driver of these lines, in tmp_path/out."""

    def start(*lines, **settings):
        script = tmp_path / "driver.sh"
        head = ("set -euo pipefail", f"source {CHAIN}", f"OUT={tmp_path}/out", "STEPS=9")
        script.write_text("\n".join((*head, *lines)) + "\n")
        return subprocess.Popen(
            ["bash", str(script)], env=os.environ | settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def made(name, command):
    return f"begin {name} $OUT/{name} bash -c '{command} >$0' $OUT/{name}"


def test_as_many_steps_run_at_a_time_as_jobs_says(chain, tmp_path):
    meet = "for i in $(seq 100); do [[ -e {other} ]] && echo met && exit; sleep 0.1; done; exit 3"
    (tmp_path / "out").mkdir()
    lines = [
        f"begin {own} $OUT/{own}.txt bash -c '>$0; {meet.format(other='$1')}' $OUT/{own} $OUT/{other}"
        for own, other in (("a", "b"), ("b", "a"))
    ]
    process = chain(*lines, "finish", 'echo "end $DONE"', JOBS="2")
    printed, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert printed.splitlines()[:2] == ["[1/9] a", "[2/9] b"] and printed.splitlines()[-1].startswith("end")
    assert (tmp_path / "out/a.txt.done").exists() and (tmp_path / "out/b.txt.done").exists()


def test_one_job_runs_one_step_after_the_other(chain, tmp_path):
    alone = "[[ ! -e $0.busy ]] || exit 3; touch $0.busy; sleep 0.2; rm $0.busy"
    lines = [f"begin {name} $OUT/{name} bash -c '{alone}' $OUT/one" for name in "abc"]
    process = chain(*lines, "finish", JOBS="1")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error


def test_a_failed_step_is_told_with_its_name_and_ends_the_others(chain, tmp_path):
    sleeper = made("long_step", "echo $$ >$0.pid; exec sleep 300")
    bad = "begin 'a bad step' $OUT/bad bash -c 'sleep 0.5; echo went wrong; exit 7'"
    process = chain(bad, sleeper, made("never", "echo"), "finish", JOBS="2")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a bad step failed; the same command goes on from here" in error and "    | went wrong" in error
    assert not (tmp_path / "out/never").exists() and not (tmp_path / "out/bad.done").exists()
    assert ended(int((tmp_path / "out/long_step.pid").read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_driver_leaves_nothing_running(chain, tmp_path, number):
    process = chain(made("long", "echo $$ >$0.pid; exec sleep 300"), "finish", JOBS="2")
    noted = tmp_path / "out/long.pid"
    deadline = time.monotonic() + 30
    while not (noted.exists() and noted.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert ended(int(noted.read_text())) and not (tmp_path / "out/long.done").exists()


def test_steps_after_one_that_is_done_again_are_done_again(chain, tmp_path):
    lines = [made("first", "echo 1"), "finish", made("second", "echo 2"), "finish"]
    for gone, before in ((None, 0), ("second", 1), ("first", 0)):
        if gone:
            (tmp_path / "out" / gone).unlink()
        printed, error = chain(*lines).communicate(timeout=60)
        assert printed.count("done before") == before, error


def ended(process, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
