"""The patch of this repository against the known versions of slime, and against real checkouts where there are some."""

import ast
import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from installer_trees import REPLACED, install_patch, snapshot
from patch_installer.patch_tree import patch_files

ROOT = Path(__file__).resolve().parents[2]
PATCH = patch_files(ROOT / "slime_patch")
VERSIONS = json.loads((ROOT / "tools" / "slime_versions.json").read_text())
CHECKOUTS = [Path(path) for name in ("SLIME_DIRS", "SLIME_DIR") for path in os.environ.get(name, "").split(":") if path]


def slime_imports(path):
    """Dotted names of everything a file imports from slime, functions' insides included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("slime."))
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.startswith("slime."):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_file_of_slime_that_the_patch_imports_is_relied_on():
    """A missing one goes into `relied_on` of tools/slime_versions.json; then `fingerprint` every version again."""
    relied_on = set(VERSIONS["relied_on"])
    for source in PATCH.values():
        if source.suffix != ".py":
            continue
        for dotted in slime_imports(source):
            parts = dotted.split(".")
            stems = ["/".join(parts), "/".join(parts[:-1])]
            names = {f"{stem}{end}" for stem in stems for end in (".py", "/__init__.py")}
            assert names & (relied_on | PATCH.keys()), f"{source} imports {dotted}"


def test_the_patch_replaces_one_file_of_slime():
    assert {name for name in PATCH if name in VERSIONS["relied_on"]} <= {REPLACED}
    taken = {"requirements.txt", "setup.py", "pyproject.toml", "README.md", "LICENSE", "train.py", "train_async.py"}
    assert not taken & PATCH.keys(), "cp -r would overwrite slime's own"


def test_the_known_versions_tell_apart():
    contents = [json.dumps(version["files"]) for version in VERSIONS["versions"].values()]
    assert len(set(contents)) == len(contents) >= 5
    assert all(REPLACED in version["files"] for version in VERSIONS["versions"].values())


def run(command, checkout):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = install_patch.main([command, "--slime-dir", str(checkout)])
    return code, printed.getvalue()


@pytest.mark.skipif(not CHECKOUTS, reason="set SLIME_DIRS (colon-separated) or SLIME_DIR to untouched slime checkouts")
@pytest.mark.parametrize("checkout", CHECKOUTS, ids=lambda path: path.name)
def test_a_real_checkout_takes_the_patch_and_gets_its_own_tree_back(checkout, tmp_path):
    copy = tmp_path / "slime"
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git", "docs", "imgs", "docker", "examples"))
    before = snapshot(copy)
    code, text = run("check", copy)
    assert (code, text.startswith("slime ")) == (0, True), text
    assert run("apply", copy)[0] == run("verify", copy)[0] == run("check", copy)[0] == 0
    after = snapshot(copy)
    assert all(after[name][0] == source.read_bytes() for name, source in PATCH.items())
    assert {name for name in before if after[name] != before[name]} == {REPLACED} & PATCH.keys()
    assert run("revert", copy)[0] == 0
    assert snapshot(copy) == before
