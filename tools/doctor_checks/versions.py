"""Versions of Python, the packages and Megatron against `supported_versions.json`.

Packages are looked up in the metadata of the Python that runs the doctor; none is imported.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from .patch import slime_version
from .result import Result, failed, passed, skipped, warned
from .settings import Settings

TOOLS = Path(__file__).resolve().parents[1]
REQUIREMENTS = TOOLS.parent / "slime_patch" / "ta_opd" / "requirements.txt"
_ONLY_SLIME = ("sglang", "ray")


@cache
def supported() -> dict[str, Any]:
    """The table. tested: versions that the test-suite ran with. oldest: below it nothing can work. image: what slime's
    own image of that version of slime brings."""
    return json.loads((TOOLS / "supported_versions.json").read_text(encoding="utf-8"))


def check_versions(settings: Settings) -> Iterator[Result]:
    yield _python(settings)
    slime = slime_version(settings)
    for package, known in supported()["packages"].items():
        if settings.local_engine and package in _ONLY_SLIME:
            yield skipped(package, "BACKEND=local does not use it", "nothing to do")
        else:
            yield _package(package, known, slime)
    yield from _requirements()
    if settings.local_engine:
        return
    yield _megatron_core(settings)
    yield _megatron_commit(settings, slime)


def judge(check: str, version: str, known: Mapping[str, Any], slime: str | None) -> Result:
    """A version against its row of the table. slime: the version of slime in use, None where not known."""
    tested, image = known["tested"], known.get("image", {}).get(slime)
    told = f"tested {'are' if len(tested) > 1 else 'is'} {', '.join(tested)}"
    oldest = known.get("oldest")
    if oldest and release(version) < release(oldest):
        return failed(check, f"{version}; {oldest} is the oldest that can work", f"install {check} {tested[-1]}")
    if any(version == one or version.startswith(f"{one}.") for one in tested):
        return passed(check, version)
    if version == image:
        return passed(check, f"{version}, as in the image of slime {slime}; {told}")
    fix = f"unknown here, not known to be wrong: install {check} {image or tested[-1]}, or look at the first rollouts"
    return warned(check, f"{version}; {told}", fix)


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: 0.5.15.post1 -> (0, 5, 15)."""
    return tuple(int(part) for part in re.match(r"\d+(?:\.\d+)*", version)[0].split("."))


def installed(package: str) -> str | None:
    """Its version without the local part (+cu129), None where it is not installed."""
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def _python(settings: Settings) -> Result:
    wanted = settings.text("PYTHON")
    if wanted and "/" in wanted and Path(wanted).absolute() != Path(sys.executable).absolute():
        fix = f"run the doctor with the launchers' Python: {wanted} tools/doctor.py ..."
        return warned("python", f"the doctor runs under {sys.executable}, the launchers use {wanted}", fix)
    return judge("python", platform.python_version(), supported()["python"], None)


def _package(package: str, known: Mapping[str, Any], slime: str | None) -> Result:
    version = installed(package)
    if version is None:
        fix = f"run in slime's image, or pip install {package}=={known['tested'][0]} into {sys.executable}"
        return failed(package, "not installed", fix)
    return judge(package, version, known, slime)


def _requirements() -> Iterator[Result]:
    """What our own client and token bank need beside torch and numpy."""
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        wanted = re.fullmatch(r"([\w.-]+)>=([\d.]+)", line.strip())
        if wanted is None:
            assert not line.strip() or line.startswith("#"), f"{REQUIREMENTS}: {line}"
            continue
        package, oldest = wanted.groups()
        version = installed(package)
        if version is None or release(version) < release(oldest):
            found = "not installed" if version is None else f"{version}, older than {oldest}"
            yield failed(package, found, f"pip install -r {REQUIREMENTS}")
        else:
            yield passed(package, version)


def _megatron_core(settings: Settings) -> Result:
    known, checkout = supported()["megatron_core"], settings.path("MEGATRON_LM_DIR")
    if checkout is None:
        version = installed("megatron-core")
        if version is None:
            return failed("megatron-core", "not installed, and no checkout is named", "set MEGATRON_LM_DIR")
        return judge("megatron-core", version, known, None)
    info = checkout / "megatron" / "core" / "package_info.py"
    if not info.is_file():
        return failed("megatron-core", f"{checkout} has no megatron/core", "MEGATRON_LM_DIR is a Megatron-LM checkout")
    parts = dict(re.findall(r"^(MAJOR|MINOR|PATCH|PRE_RELEASE) = '?([\w.]*)'?", info.read_text("utf-8"), re.MULTILINE))
    if not {"MAJOR", "MINOR", "PATCH"} <= parts.keys():
        return warned("megatron-core", f"{info} names no version", "look at the checkout")
    version = f"{parts['MAJOR']}.{parts['MINOR']}.{parts['PATCH']}{parts.get('PRE_RELEASE', '')}"
    return judge("megatron-core", version, known, None)


def _megatron_commit(settings: Settings, slime: str | None) -> Result:
    check, checkout = "Megatron-LM commit", settings.path("MEGATRON_LM_DIR")
    if checkout is None:
        return skipped(check, "MEGATRON_LM_DIR is not set: the installed megatron-core is used", "set MEGATRON_LM_DIR")
    if not (checkout / "megatron" / "training").is_dir():
        return failed(check, f"{checkout} has no megatron/training", "MEGATRON_LM_DIR is a whole Megatron-LM checkout")
    wanted = supported()["megatron_lm_commit"].get(slime)
    # Inside another repository git would answer for that one, and pass over a patch's paths.
    commit = _git(checkout, "rev-parse", "HEAD") if (checkout / ".git").exists() else None
    if commit is None:
        return warned(check, f"{checkout} is no git checkout", f"slime {slime or ''} is built with {wanted or '?'}")
    patch, found = _slime_patch(settings.path("SLIME_DIR")), commit[:12]
    if patch:
        if _git(checkout, "apply", "--check", patch) is not None:
            fix = f"git -C {checkout} apply {patch}"
            return failed(check, f"{found} without slime's docker/patch/latest/megatron.patch", fix)
        if _git(checkout, "apply", "--reverse", "--check", patch) is None:
            fix = f"see git -C {checkout} diff against {patch}"
            return warned(check, f"{found} with edits in the places of slime's megatron.patch", fix)
        found += ", with slime's megatron.patch"
    if wanted is None:
        return warned(check, f"{found}; this slime is unknown", "see docker/Dockerfile of slime for its commit")
    if commit != wanted:
        fix = f"git checkout {wanted}; a checkout that was committed again after patching has another name"
        return warned(check, f"{found}; the image of slime {slime} has {wanted[:12]}", fix)
    return passed(check, found)


def _slime_patch(slime: Path | None) -> str:
    """Where slime keeps its patch of Megatron; empty where slime is not at hand or brings none."""
    patch = slime and slime / "docker" / "patch" / "latest" / "megatron.patch"
    return str(patch.resolve()) if patch and patch.is_file() else ""


def _git(checkout: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails or is not there."""
    command = ["git", "-C", str(checkout), "-c", f"safe.directory={checkout.resolve()}", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
