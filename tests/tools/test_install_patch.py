"""What the installer writes, and what it gives back."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from installer_trees import NEWER, PATCH, REPLACED, UPSTREAM, Trees, refused, snapshot


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


def test_apply_then_revert_leaves_the_tree_byte_identical(trees, pristine):
    assert trees.run("apply")[0] == 0
    assert files_of(snapshot(trees.slime)) == UPSTREAM | PATCH
    assert trees.run("verify")[0] == trees.run("check")[0] == 0
    assert trees.run("revert")[0] == 0
    assert snapshot(trees.slime) == pristine
    assert not (trees.slime / ".ta_opd_patch").exists()
    assert trees.run("revert") == (0, "the patch is not applied: nothing to revert\n")


def test_check_changes_nothing_and_lists_every_file(trees, pristine):
    code, text = trees.run("check")
    assert code == 0
    assert f"replace {REPLACED}" in text
    assert "new     train_opd.py" in text
    assert "slime v9.1: supports token selection in the loss mask only" in text
    assert snapshot(trees.slime) == pristine
    assert not (trees.slime / ".ta_opd_patch").exists()


def test_a_second_apply_does_nothing(trees):
    trees.run("apply")
    stamps = {path: path.stat().st_mtime_ns for path in trees.slime.rglob("*.*")}
    code, text = trees.run("apply")
    assert (code, "nothing to do" in text) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in trees.slime.rglob("*.*")} == stamps


def test_the_same_tree_as_cp(trees, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trees.slime, copy)
    subprocess.run(["cp", "-r", f"{trees.patches['0.1.0']}/.", f"{copy}/"], check=True)
    trees.run("apply")
    assert snapshot(trees.slime) == snapshot(copy)


def test_the_manifest_tells_versions_hashes_and_modes(trees):
    original = (trees.slime / REPLACED).read_bytes()
    trees.run("apply")
    record = manifest(trees)
    assert (record["patch_version"], record["slime_version"], record["forced"]) == ("0.1.0", "v9.1", [])
    assert record["files"]["train_opd.py"]["before"] is None
    assert record["files"][REPLACED]["before"]["mode"] == 0o664
    kept = (
        trees.slime
        / ".ta_opd_patch/kept"
        / f"{Path(REPLACED).name}.{record['files'][REPLACED]['before']['sha256'][:16]}"
    )
    assert kept.read_bytes() == original
    assert (trees.slime / "train_opd.py").stat().st_mode & 0o111
    assert (trees.slime / REPLACED).stat().st_mode & 0o777 == 0o664


def test_leftovers_of_the_source_tree_are_not_copied(trees):
    patch = trees.patches["0.1.0"]
    for name in (
        "ta_opd/__pycache__/scores.cpython-311.pyc",
        "ta_opd/scores.py~",
        "ta_opd/.scores.py.swp",
        ".DS_Store",
    ):
        (patch / name).parent.mkdir(exist_ok=True)
        (patch / name).write_bytes(b"junk")
    trees.run("apply")
    assert files_of(snapshot(trees.slime)) == UPSTREAM | PATCH


def test_an_upgrade_removes_what_vanished_and_keeps_the_first_original(trees, pristine):
    trees.run("apply")
    assert "another patch is at hand (0.2.0)" in trees.run("check", patch="0.2.0")[1]
    assert trees.run("apply", patch="0.2.0")[0] == 0
    assert files_of(snapshot(trees.slime)) == UPSTREAM | NEWER
    assert not (trees.slime / "slime/opd").exists()
    assert len(list((trees.slime / ".ta_opd_patch/kept").iterdir())) == 1
    assert trees.run("revert", patch="0.2.0")[0] == 0
    assert snapshot(trees.slime) == pristine


def test_edits_of_installed_files_are_named_and_kept_unless_forced(trees, pristine):
    trees.run("apply")
    (trees.slime / "ta_opd/scores.py").write_text("edited\n")
    (trees.slime / "train_opd.py").unlink()
    code, text = trees.run("verify")
    assert (code, "ta_opd/scores.py was changed" in text, "train_opd.py is missing" in text) == (1, True, True)
    assert trees.run("check")[0] == 1
    for command in ("apply", "revert"):
        assert "ta_opd/scores.py was edited since" in refused(trees, command)
    assert trees.run("apply", "--force")[0] == trees.run("verify")[0] == 0
    (trees.slime / REPLACED).unlink()
    assert trees.run("apply")[0] == trees.run("verify")[0] == 0
    (trees.slime / REPLACED).write_text("edited\n")
    assert "differs: v9.1" not in refused(trees, "revert")
    assert trees.run("revert", "--force")[0] == 0
    assert snapshot(trees.slime) == pristine


def test_revert_leaves_other_peoples_files_and_drops_our_bytecode(trees, pristine):
    trees.run("apply")
    for name in ("ta_opd/__pycache__/scores.cpython-311.pyc", "slime/opd/new/__pycache__/hooks.cpython-311.opt-1.pyc"):
        (trees.slime / name).parent.mkdir()
        (trees.slime / name).write_bytes(b"")
    (trees.slime / "slime/opd/mine.py").write_text("mine\n")
    assert trees.run("revert")[0] == 0
    assert files_of(snapshot(trees.slime)) == UPSTREAM | {"slime/opd/mine.py": "mine\n"}
    assert not (trees.slime / "ta_opd").exists()
    assert not (trees.slime / "slime/opd/new").exists()


def test_slimes_own_file_put_back_by_hand_is_no_edit(trees, pristine):
    trees.run("apply")
    (trees.slime / REPLACED).write_text(UPSTREAM[REPLACED])
    assert trees.run("check")[0] == 1
    assert trees.run("apply")[0] == trees.run("verify")[0] == 0
    (trees.slime / REPLACED).write_text(UPSTREAM[REPLACED])
    assert trees.run("revert")[0] == 0
    assert snapshot(trees.slime) == pristine | {REPLACED: snapshot(trees.slime)[REPLACED]}


def test_a_damaged_original_is_noticed_and_never_restored(trees):
    trees.run("apply")
    next((trees.slime / ".ta_opd_patch/kept").iterdir()).write_text("damaged")
    assert "the kept original is gone or damaged" in trees.run("verify")[1]
    assert f"git checkout -- {REPLACED}" in refused(trees, "revert", "--force")
    (trees.slime / REPLACED).write_text(UPSTREAM[REPLACED])
    assert trees.run("revert")[0] == 0


def hand_copy(trees):
    shutil.copytree(trees.patches["0.1.0"], trees.slime, dirs_exist_ok=True)


def test_a_hand_made_copy_without_git_asks_for_slimes_own_file(trees, pristine):
    hand_copy(trees)
    assert "copied in: 4 of 4 files" in trees.run("check")[1]
    assert f"git checkout -- {REPLACED}" in refused(trees, "apply", "--force")
    assert "`apply` adopts it" in refused(trees, "revert")
    (trees.slime / REPLACED).write_text(UPSTREAM[REPLACED])
    (trees.slime / REPLACED).chmod(0o664)
    assert trees.run("apply")[0] == trees.run("revert")[0] == 0
    assert snapshot(trees.slime) == pristine


def test_a_hand_made_copy_in_a_git_checkout_is_adopted(trees, pristine):
    git = ["git", "-C", str(trees.slime), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "slime"]):
        subprocess.run(git + command, check=True, capture_output=True)
    hand_copy(trees)
    (trees.slime / REPLACED).chmod(0o664)
    assert trees.run("check")[0] == 0
    assert trees.run("apply")[0] == trees.run("verify")[0] == 0
    assert not subprocess.run([*git, "status", "--porcelain", ".ta_opd_patch"], capture_output=True, check=True).stdout
    assert trees.run("revert")[0] == 0
    shutil.rmtree(trees.slime / ".git")
    assert snapshot(trees.slime) == pristine
