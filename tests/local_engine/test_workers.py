import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from local_engine.workers import side_by_side


def count_to(limit):
    def work(job):
        for number in range(limit):
            yield {"job": job, "number": number, "process": os.getpid()}

    return work


def fail():
    def work(job):
        raise OSError("the disk is full")
        yield

    return work


@pytest.mark.parametrize("count", [1, 2])
def test_every_job_is_done_once_and_in_order(count):
    rows = list(side_by_side(range(5), count, count_to, (3,)))
    for job in range(5):
        assert [row["number"] for row in rows if row["job"] == job] == [0, 1, 2]
    assert (os.getpid() in {row["process"] for row in rows}) == (count == 1)


def test_more_jobs_than_a_pipe_holds_are_no_obstacle():
    assert len(list(side_by_side([str(number) * 50 for number in range(3000)], 2, count_to, (1,)))) == 3000


def test_a_worker_that_fails_ends_the_run(capfd):
    with pytest.raises(RuntimeError, match="exit code 1"):
        list(side_by_side([1, 2], 2, fail, ()))
    assert "the disk is full" in capfd.readouterr().err


def test_closing_early_ends_the_workers():
    rows = side_by_side([1, 2], 2, count_to, (10**9,))
    process = next(rows)["process"]
    rows.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_workers_die_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "from local_engine.workers import side_by_side\n"
        "import itertools, os, time\n"
        "def endless():\n"
        "    return lambda job: ({'process': os.getpid()} for _ in itertools.count() if not time.sleep(0.01))\n"
        "if __name__ == '__main__':\n"
        "    for row in side_by_side([1, 2], 2, endless, ()):\n"
        "        print(row['process'], flush=True)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _alive(worker):
        time.sleep(0.02)
    assert not _alive(worker)


def _alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] not in "ZX"
    except FileNotFoundError:
        return False
