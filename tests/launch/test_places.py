"""Where a suite cannot be: taken, read-only, full. Each is said in a line."""

import os
import subprocess

import pytest

ONE = {"METHOD_LIST": "teachability:0.10:1"}
RUN = "teachability-0.10-seed42"


def test_two_suites_of_one_tag_are_refused_and_the_first_goes_on(suite):
    suite.order("step_seconds", 0.2)
    first = suite.launch(**ONE)
    suite.wait_for(lambda: suite.rollouts(RUN), first)
    code, printed = suite.run(**ONE)
    assert code == 2
    assert f"is in use by process {first.pid} on " in printed and printed.count("\n") == 1
    printed, _ = first.communicate(timeout=300)
    assert first.returncode == 0, printed
    assert suite.rollouts(RUN) == [0, 1, 2, 3, 4, 5]


def test_the_lock_goes_with_a_killed_suite_though_its_children_live(suite):
    suite.order("step_seconds", 0.2)
    first = suite.launch(**ONE)
    suite.wait_for(lambda: suite.rollouts(RUN), first)
    first.kill()
    first.wait()
    first.stdout.close()
    assert len(suite.alive()) >= 3
    lock = ["flock", "--nonblock", str(suite.directory / ".lock"), "true"]
    assert subprocess.run(lock).returncode == 0
    code, printed = suite.run(NUM_ROLLOUT="6", **ONE)
    assert code == 0 and "left over from an earlier call" in printed


def test_an_output_that_cannot_be_written_is_refused_in_one_line(suite):
    # Not even root makes files there.
    code, printed = suite.run(OUTPUT_ROOT="/proc/sys/ta-opd", **ONE)
    assert code == 2
    assert "OUTPUT_ROOT: cannot make /proc/sys/ta-opd/nightly" in printed
    assert not suite.journal()


def test_a_read_only_suite_is_refused_in_one_line(suite):
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere; the test above has a place where it cannot")
    suite.directory.mkdir(parents=True)
    suite.directory.chmod(0o500)
    code, printed = suite.run(**ONE)
    assert code == 2 and "cannot be written" in printed


def test_a_file_size_limit_in_the_middle_of_a_run_fails_it_cleanly(suite):
    """A disk that fills up: no file may grow past its limit (RLIMIT_FSIZE), so that writes come to nothing."""
    suite.order("step_seconds", 0.05)
    first = suite.launch(**ONE)
    suite.wait_for(lambda: suite.rollouts(RUN), first)
    subprocess.run(["prlimit", "--pid", str(first.pid), "--fsize=1"], check=True)
    printed, _ = first.communicate(timeout=300)
    assert first.returncode == 1, printed
    assert "cannot write" in printed and "is the disk full?" in printed
    assert suite.alive() == {}
    code, printed = suite.run(**ONE)
    assert code == 0, printed
    assert suite.rollouts(RUN) == [0, 1, 2, 3, 4, 5]


def test_a_full_disk_is_said_and_the_suite_goes_on_when_there_is_room(suite):
    suite.root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(suite.root)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        filler = suite.root / "filler"
        suite.order("step_seconds", 0.1)
        first = suite.launch(**ONE)
        suite.wait_for(lambda: suite.rollouts(RUN), first)
        with pytest.raises(OSError), filler.open("wb", buffering=0) as handle:
            while True:
                handle.write(bytes(512))
        printed, _ = first.communicate(timeout=300)
        assert first.returncode == 1, printed
        assert "is the disk full?" in printed, printed
        assert suite.alive() == {}
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=16m", str(suite.root)], check=True)
        code, printed = suite.run(**ONE)
        assert code == 0, printed
        assert suite.states(RUN)[-1] == ("done", "ok")
    finally:
        subprocess.run(["umount", str(suite.root)], check=True)
