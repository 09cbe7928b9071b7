"""The installer under kill -9, full disks and random sequences of commands."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import installer_trees
from installer_trees import NEWER, PATCH, REPLACED, UPSTREAM, Trees, snapshot
from patch_installer.store import Store


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.parametrize("scenario", installer_trees.SCENARIOS)
def test_a_kill_at_any_operation_is_finished_or_undone_by_the_next_call(scenario, tmp_path):
    program = [sys.executable, installer_trees.__file__, scenario, str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)
    assert len(cases) > 60
    installed = {"apply": ("after",), "upgrade": ("before", "after"), "revert": ("before",)}[scenario]
    for case in cases:
        assert case["tree"] != "torn", case
        assert case["check"] == 0, case
        assert "journal.json" not in case["records"], case
        assert ("patch: applied" in case["text"]) == (case["tree"] in installed), case
        assert ("manifest.json" in case["records"]) == (case["tree"] in installed), case
        assert case["records"] or case["tree"] not in installed, case
        assert case.get("rerun", 0) == 0, case
        assert case["end"], case
    assert {case["tree"] for case in cases} == {"before", "after"}
    assert any("interrupted: finished it" in case["text"] for case in cases)


class FailingDisk:
    """Makes the filesystem calls of pathlib fail from call `first` on, `times` times."""

    def __init__(self, patch, root, first, times):
        self.first, self.last, self.root, self.count = first, first + times, str(root), 0
        for name in ("replace", "unlink", "mkdir", "rmdir", "chmod"):
            patch.setattr(Path, name, self.wrap(getattr(Path, name)))

    def wrap(self, real):
        def call(path, *arguments, **options):
            if str(path).startswith(self.root):
                self.count += 1
                if self.first <= self.count < self.last:
                    raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return real(path, *arguments, **options)

        return call


@pytest.mark.parametrize("times", [1, 10**6], ids=["once", "for good"])
@pytest.mark.parametrize("command", ["apply", "revert"])
def test_a_disk_that_fails_leaves_all_or_nothing(tmp_path, command, times):
    trees = Trees(tmp_path)
    states = {False: snapshot(trees.slime)}
    trees.run("apply")
    states[True] = snapshot(trees.slime)
    for first in range(1, 200):
        trees.run("apply" if command == "revert" else "revert")
        before = snapshot(trees.slime)
        with pytest.MonkeyPatch.context() as patch:
            disk = FailingDisk(patch, trees.slime, first, times)
            code, text = trees.run(command)
        if times == 1 and code == 2 and "was undone" in text:
            assert snapshot(trees.slime) == before, (first, text)
        assert "Traceback" not in text
        code, text = trees.run("check")
        assert code == 0, (first, text)
        assert snapshot(trees.slime) == states["patch: applied" in text], (first, text)
        if disk.count < first:
            return
    pytest.fail("the command never ended")


def test_a_file_changed_after_an_interruption_is_not_overwritten_unasked(tmp_path, monkeypatch):
    trees = Trees(tmp_path)
    real = Store.write

    def interrupted(store, path, content, mode=0o644):
        if path.name == "train_opd.py":
            raise KeyboardInterrupt
        real(store, path, content, mode)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", interrupted)
        assert trees.run("apply")[0] == 130
    (trees.slime / "train_opd.py").write_text("mine\n")
    before = snapshot(trees.slime)
    for command in ("check", "verify", "apply", "revert"):
        code, text = trees.run(command)
        assert (code, "train_opd.py was changed after a run was interrupted" in text) == (2, True)
    assert snapshot(trees.slime) == before
    code, text = trees.run("apply", "--force")
    assert (code, "interrupted: finished it" in text) == (0, True)
    assert trees.run("verify")[0] == 0


FOREIGN = {"ta_opd/mine.py": "mine\n", "slime/opd/new/mine.py": "mine\n", "notes.txt": "mine\n"}
COMMANDS = [(name, version) for name in ("apply", "apply --force") for version in ("0.1.0", "0.2.0")]
COMMANDS += [(name, "0.1.0") for name in ("revert", "revert --force", "check", "verify")]
EDITS = [("edit", name) for name in sorted(PATCH.keys() | NEWER.keys())] + [("edit", "train.py")]
EDITS += [("delete", name) for name in sorted(PATCH)] + [("add", name) for name in FOREIGN] + [("reset", REPLACED)]


class Person:
    """Runs commands and edits files, and knows what the checkout must look like."""

    def __init__(self, work):
        self.trees = Trees(work)
        self.base = self.files()
        self.installed = None

    def files(self):
        return {name: content for name, content in snapshot(self.trees.slime).items() if content != "directory"}

    def do(self, action, what):
        path = self.trees.slime / what
        if action in ("edit", "add", "reset"):
            content = {"edit": "edited\n", "add": FOREIGN.get(what), "reset": UPSTREAM.get(what)}[action]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        elif action == "delete":
            path.unlink(missing_ok=True)
        else:
            return self.command(action.split(), what)
        if self.installed is None or what not in self.installed:
            now = self.files()
            self.base = {name: now.get(name) for name in {*self.base, what} if now.get(name)}

    def command(self, words, version):
        before = self.files()
        code, text = self.trees.run(*words, patch=version)
        after = self.files()
        assert "Traceback" not in text
        if code != 0 or words[0] in ("check", "verify"):
            assert after == before, text
        elif words[0] == "apply":
            if self.installed is None:
                self.base = before
            self.installed = {"0.1.0": PATCH, "0.2.0": NEWER}[version]
            assert all(after[name][0].decode() == content for name, content in self.installed.items())
            assert self.trees.run("verify", patch=version)[0] == 0
            self.base |= {name: before[name] for name in before.keys() - self.ever() if name not in self.base}
        else:
            self.installed = None
            assert not (self.trees.slime / ".ta_opd_patch").exists()
        if self.installed is not None:
            untouched = self.base.keys() - self.ever()
            assert {name: after.get(name) for name in untouched} == {name: self.base[name] for name in untouched}

    def ever(self):
        return PATCH.keys() | NEWER.keys()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(st.sampled_from(COMMANDS), st.sampled_from(EDITS)), max_size=9))
def test_any_sequence_of_commands_and_edits_can_be_reverted(actions):
    with tempfile.TemporaryDirectory() as work:
        person = Person(Path(work))
        for action, what in actions:
            person.do(action, what)
        if person.installed is None:
            return
        others = {name: content for name, content in person.files().items() if name not in person.ever()}
        code, text = person.trees.run("revert", "--force")
        assert code == 0, text
        after = person.files()
        assert {name: content for name, content in after.items() if name not in person.ever()} == others
        replaced = after.pop(REPLACED, (b"", 0))[0].decode()
        assert replaced in (UPSTREAM[REPLACED], "edited\n", "")
        assert all(content[0] == b"edited\n" for name, content in after.items() if name in person.ever())
