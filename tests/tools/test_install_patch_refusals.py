"""What the installer refuses, what --force goes past, and how it is called."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from installer_trees import REPLACED, UPSTREAM, Trees, refused, snapshot
from patch_installer.store import Store

TOOL = Path(__file__).resolve().parents[2] / "tools" / "install_patch.py"
CRLF = {name: content.replace("\n", "\r\n") for name, content in UPSTREAM.items()}


@pytest.fixture
def trees(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return Trees(tmp_path)


@pytest.fixture
def pristine(trees):
    return snapshot(trees.slime)


def manifest(trees):
    return json.loads((trees.slime / ".ta_opd_patch/manifest.json").read_text())


def files_of(tree):
    return {name: content[0].decode() for name, content in tree.items() if content != "directory"}


@pytest.mark.parametrize("name", ["train.py", REPLACED])
def test_a_changed_relied_on_file_is_refused_by_name_and_forced_on_request(trees, name):
    (trees.slime / name).write_text("changed\n")
    before = snapshot(trees.slime)
    text = refused(trees, "apply")
    assert f"{name} differs: v9.1 has sha256" in text
    assert trees.run("check")[0] == 2
    code, text = trees.run("apply", "--force")
    assert code == 0
    assert "What that risks" in text
    assert manifest(trees)["forced"][0].startswith(name)
    assert manifest(trees)["slime_version"] == "unknown, closest v9.1"
    assert trees.run("apply")[0] == 0, "the same patch again has nothing to do"
    assert trees.run("revert")[0] == 0
    assert snapshot(trees.slime) == before


def test_a_missing_relied_on_file_is_refused(trees):
    (trees.slime / "slime/utils/misc.py").unlink()
    assert "slime/utils/misc.py is missing; v9.1 has it" in refused(trees, "apply")


def test_windows_line_endings_are_still_that_version(trees):
    for name, content in CRLF.items():
        (trees.slime / name).write_bytes(content.encode())
    before = snapshot(trees.slime)
    assert trees.run("apply")[0] == 0
    assert trees.run("check")[0] == 0
    assert trees.run("revert")[0] == 0
    assert snapshot(trees.slime) == before


def test_a_file_in_the_way_is_refused_and_comes_back_after_force(trees):
    (trees.slime / "ta_opd").mkdir()
    (trees.slime / "ta_opd/scores.py").write_text("mine\n")
    before = snapshot(trees.slime)
    assert "ta_opd/scores.py already exists with other content" in refused(trees, "apply")
    assert trees.run("apply", "--force")[0] == 0
    assert trees.run("revert")[0] == 0
    assert snapshot(trees.slime) == before


@pytest.mark.parametrize("link", ["ta_opd", "slime/rollout", "train_opd.py", REPLACED, ".ta_opd_patch"])
def test_a_link_that_leads_outside_is_refused_even_with_force(trees, tmp_path, link):
    path, outside = trees.slime / link, tmp_path / "outside"
    if path.exists():
        path.rename(outside)
    elif path.suffix == ".py":
        outside.write_text("")
    else:
        outside.mkdir()
    path.symlink_to(outside)
    before = files_of(snapshot(outside)) if outside.is_dir() else outside.read_bytes()
    for options in [(), ("--force",)]:
        assert link in refused(trees, "apply", *options)
    assert (files_of(snapshot(outside)) if outside.is_dir() else outside.read_bytes()) == before


def test_a_linked_directory_inside_the_checkout_is_followed(trees):
    (trees.slime / "slime/rollout").rename(trees.slime / "elsewhere")
    (trees.slime / "slime/rollout").symlink_to("../elsewhere")
    before = snapshot(trees.slime)
    assert trees.run("apply")[0] == trees.run("revert")[0] == 0
    assert snapshot(trees.slime) == before


def test_a_directory_or_file_of_the_wrong_kind_is_refused(trees):
    (trees.slime / "ta_opd").write_text("a file")
    (trees.slime / "train_opd.py").mkdir()
    text = refused(trees, "apply", "--force")
    assert "ta_opd is a file or a broken link where a directory is needed" in text
    assert "train_opd.py is not a regular file" in text


@pytest.mark.parametrize("where", [".", "slime/rollout"])
def test_no_permission_is_refused_before_anything_is_written(trees, monkeypatch, where):
    real, closed = os.access, trees.slime / where
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed and real(path, mode))
    assert "no permission to write" in refused(trees, "apply")
    assert not (trees.slime / ".ta_opd_patch").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [("nowhere", "no such directory"), ("slime/slime", "give its parent"), (".", "no train.py beside slime/rollout/")],
)
def test_what_is_not_a_checkout_is_refused(trees, tmp_path, given, message):
    assert message in refused(trees, "check", "--slime-dir", str(tmp_path / given))


def test_the_command_line_reads_slime_dir_from_the_environment_and_explains_itself(trees):
    environment = {key: value for key, value in os.environ.items() if key != "SLIME_DIR"}
    command = [sys.executable, str(TOOL), "verify"]
    asked = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (asked.returncode, asked.stderr.count("\n")) == (2, 1)
    assert "give --slime-dir DIR or set SLIME_DIR" in asked.stderr
    environment["SLIME_DIR"] = str(trees.slime)
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 1
    usage = subprocess.run([sys.executable, str(TOOL), "-h"], capture_output=True, text=True, check=True).stdout
    assert "exit codes:" in usage


def test_a_second_run_at_the_same_time_is_refused(trees, pristine):
    with Store(trees.slime).lock():
        assert "another install_patch is at work" in refused(trees, "apply")
        assert "another install_patch is at work" in refused(trees, "check")
    assert trees.run("apply")[0] == 0
    with Store(trees.slime).lock(shared=True):
        assert trees.run("verify")[0] == 0
        assert "another install_patch is at work" in refused(trees, "revert")


def test_records_that_cannot_be_trusted_are_refused(trees):
    trees.run("apply")
    record = trees.slime / ".ta_opd_patch/manifest.json"
    good = record.read_text()
    for bad in (
        "{",
        good.replace('"train_opd.py"', '"../../train_opd.py"'),
        good.replace('"format": 1', '"format": 2'),
    ):
        record.write_text(bad)
        for command in ("check", "verify", "apply", "revert"):
            refused(trees, command, *(["--force"] if command in ("apply", "revert") else []))


def test_fingerprint_refuses_a_patched_checkout(trees):
    assert trees.run("fingerprint", "--name", "v9.2")[0] == 0
    trees.run("apply")
    assert "untouched checkout" in refused(trees, "fingerprint", "--name", "v9.3")
    shutil.rmtree(trees.slime / ".ta_opd_patch")
    assert "untouched checkout" in refused(trees, "fingerprint", "--name", "v9.3")
