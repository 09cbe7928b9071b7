"""The slime checkout and the patch in it, read through the installer's own records; nothing is repaired or locked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from patch_installer import commands, versions
from patch_installer.patch_tree import Refused, patch_files, patch_version
from patch_installer.plan import damaged_originals, differences, digest_of, match_checkout
from patch_installer.store import Store

from .result import Result, failed, passed, skipped, warned
from .settings import Settings

TOOLS = Path(__file__).resolve().parents[1]
PATCH_DIR = TOOLS.parent / "slime_patch"
VERSIONS = TOOLS / "slime_versions.json"
_INSTALL = "python tools/install_patch.py"


def slime_version(settings: Settings) -> str | None:
    """The known version that the checkout is; None where it is another, or is not there."""
    try:
        store = Store(commands.find_checkout(settings.text("SLIME_DIR")))
        match = match_checkout(store, versions.load(VERSIONS), patch_files(PATCH_DIR), store.read_manifest())
    except Refused:
        return None
    return match.name if match.exact else None


def check_patch(settings: Settings) -> Iterator[Result]:
    if settings.local_engine:
        yield skipped("slime", "BACKEND=local does not use it", "nothing to do")
        return
    if not settings.text("SLIME_DIR"):
        yield settings.unset("slime", "SLIME_DIR")
        return
    try:
        store = Store(commands.find_checkout(settings.text("SLIME_DIR")))
        if store.interrupted():
            yield failed("slime", "an installation was interrupted or is going on", f"{_INSTALL} check")
            return
        yield _slime(store)
        yield _patch(store)
    except Refused as error:
        yield failed("slime", str(error), f"{_INSTALL} check --slime-dir {settings.text('SLIME_DIR')}")


def _slime(store: Store) -> Result:
    match = match_checkout(store, versions.load(VERSIONS), patch_files(PATCH_DIR), store.read_manifest())
    if not match.exact:
        first = f"{match.differences[0]}{' ...' if len(match.differences) > 1 else ''}"
        known = ", ".join(versions.load(VERSIONS).versions)
        fix = f"check out one of {known}; docs/compatibility.md has what they can do"
        return warned("slime", f"{match.title()}: {first}", fix)
    if match.support != "full":
        fix = "slime v0.3.0 or later, or keep to --opd-mask-target loss and sampled-token OPD"
        return warned("slime", match.title(), fix)
    return passed("slime", match.title())


def _patch(store: Store) -> Result:
    manifest, files = store.read_manifest(), patch_files(PATCH_DIR)
    apply = f"{_INSTALL} apply --slime-dir {store.root}"
    if manifest is None:
        same = sum(digest_of(store.root / name) == digest_of(source) for name, source in files.items())
        if same == len(files):
            return warned("patch", "copied in by hand: whole, but without a record or a way back", apply)
        found = f"{same} of {len(files)} files are there, without a record" if same else "not applied"
        return failed("patch", found, apply)
    changed = differences(store.root, manifest) + damaged_originals(store, manifest)
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        return failed("patch", f"ta-opd {manifest.patch_version} is not as installed: {changed[0]}{more}", apply)
    if manifest.forced:
        since = f"ta-opd {manifest.patch_version}, forced past: {manifest.forced[0]}"
        return warned("patch", since, "the numbers of this checkout are not tested; use a known slime")
    if any(digest_of(store.root / name) != digest_of(source) for name, source in files.items()):
        now = patch_version(PATCH_DIR)
        return warned(
            "patch", f"ta-opd {manifest.patch_version}, intact, but {now} is at hand", f"{apply} (an upgrade)"
        )
    day = time.strftime("%Y-%m-%d", time.strptime(manifest.time, "%Y-%m-%dT%H:%M:%SZ"))
    return passed("patch", f"ta-opd {manifest.patch_version}, {len(manifest.files)} files, intact, applied {day}")
