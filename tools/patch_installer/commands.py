"""The subcommands: each prints what it finds or does and returns the exit code."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from . import versions
from .patch_tree import Refused, patch_files, patch_version
from .plan import Plan, damaged_originals, differences, plan_apply, plan_revert
from .store import Manifest, Store
from .transaction import execute, recover

FINE, DIFFERS, REFUSED = 0, 1, 2
RISK = (
    "--force goes on. What that risks: slime's hooks may have changed under the patch, so that a run stops at start "
    "or, worse, trains on other tokens than it reports; edits named above are lost."
)


@dataclass(frozen=True)
class Setup:
    """A checkout, the patch to install, and the versions of slime that it was made for."""

    root: Path
    patch_dir: Path
    versions_path: Path
    force: bool = False

    def store(self) -> Store:
        return Store(self.root)

    def known(self) -> versions.Known:
        return versions.load(self.versions_path)

    def plan_apply(self, manifest: Manifest | None) -> Plan:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        version = patch_version(self.patch_dir)
        return plan_apply(self.store(), self.known(), patch_files(self.patch_dir), version, manifest, now)


def find_checkout(given: str | None) -> Path:
    """The slime checkout at `given`. Raises Refused when it is not one."""
    if not given:
        raise Refused("which slime checkout? give --slime-dir DIR or set SLIME_DIR")
    root = Path(given).expanduser()
    if not root.is_dir():
        raise Refused(f"--slime-dir {given}: no such directory")
    if not ((root / "train.py").is_file() and (root / "slime" / "rollout").is_dir()):
        inner = (root / "rollout").is_dir() and (root.parent / "train.py").is_file()
        hint = f"give its parent, {root.resolve().parent}" if inner else "it has no train.py beside slime/rollout/"
        raise Refused(f"--slime-dir {given} is not the root of a slime checkout: {hint}")
    return root.resolve()


def check(setup: Setup) -> int:
    """Say what the checkout is and what apply would do."""
    store = setup.store()
    with _reading(store):
        manifest = store.read_manifest()
        plan = setup.plan_apply(manifest)
        _print_version(plan)
        changed = [] if manifest is None else differences(setup.root, manifest) + damaged_originals(store, manifest)
        print(f"patch: {_patch_state(plan, manifest, changed)}")
        for line in changed:
            print(f"  {line}")
        if plan.idle:
            for line in plan.problems:
                print(f"  {line}")
            return DIFFERS if changed or not plan.match.exact else FINE
        _print_lines("apply would do:", plan)
        for line in plan.refusals + plan.problems:
            print(f"  stands against it: {line}")
        if plan.refusals or plan.problems:
            forceable = "" if plan.refusals else " (--force goes past this)"
            print(f"apply would refuse{forceable}")
            return DIFFERS if changed else REFUSED
        print("apply would go through")
        return DIFFERS if changed else FINE


def apply(setup: Setup) -> int:
    """Install the patch, or bring an installed one up to date."""
    store = setup.store()
    with store.lock():
        _recover(store, setup.force)
        plan = setup.plan_apply(store.read_manifest())
        _print_version(plan)
        if plan.idle and not plan.refusals:
            for line in plan.problems:
                print(f"note: {line}")
            print(f"already applied: ta-opd {plan.manifest_after.patch_version}, nothing to do")
            return FINE
        _stop_or_warn(plan, setup.force)
        if setup.force:
            plan.manifest_after = replace(plan.manifest_after, forced=plan.problems)
        _print_lines("applying:", plan)
        execute(store, plan)
        written = sum(change.before != change.after for change in plan.changes)
        print(
            f"applied ta-opd {plan.manifest_after.patch_version} to slime {plan.manifest_after.slime_version}: "
            f"{written} files changed; `install_patch.py revert --slime-dir {setup.root}` undoes it"
        )
    return FINE


def revert(setup: Setup) -> int:
    """Put the checkout back to what it was before the first apply."""
    store = setup.store()
    with store.lock():
        _recover(store, setup.force)
        manifest = store.read_manifest()
        if manifest is None:
            by_hand = _copied_by_hand(setup.plan_apply(None))
            if by_hand:
                raise Refused(f"the patch is here without a record ({by_hand}): `apply` adopts it, then revert works")
            print("the patch is not applied: nothing to revert")
            return FINE
        plan = plan_revert(store, setup.known(), patch_files(setup.patch_dir), manifest)
        _stop_or_warn(plan, setup.force)
        _print_lines("reverting:", plan)
        execute(store, plan)
        print(f"reverted ta-opd {manifest.patch_version}")
    return FINE


def verify(setup: Setup) -> int:
    """Compare every installed file with the manifest."""
    store = setup.store()
    with _reading(store):
        manifest = store.read_manifest()
        if manifest is None:
            print("the patch is not applied by this installer: nothing to compare with")
            return DIFFERS
        changed = differences(setup.root, manifest) + damaged_originals(store, manifest)
        for line in changed:
            print(line)
        print(f"{len(changed)} differences" if changed else f"all {len(manifest.files)} files are as installed")
        return DIFFERS if changed else FINE


def fingerprint(setup: Setup, name: str, support: str) -> int:
    """Add a version of slime to the list."""
    if setup.store().directory.exists():
        raise Refused(f"{setup.root} is patched: take the hashes from an untouched checkout of slime")
    count = versions.record(setup.versions_path, setup.root, name, support, patch_files(setup.patch_dir))
    print(f"recorded {count} files of slime {name} ({support}) in {setup.versions_path}")
    return FINE


@contextmanager
def _reading(store: Store) -> Iterator[None]:
    """Hold the store for reading; completes an interrupted run first, and touches nothing where we never were."""
    if not os.path.lexists(store.directory):
        yield
        return
    repair = store.interrupted()
    with store.lock(shared=not repair):
        if repair:
            _recover(store)
        yield


def _recover(store: Store, force: bool = False) -> None:
    done = recover(store, force)
    if done:
        print(done)


def _stop_or_warn(plan: Plan, force: bool) -> None:
    if plan.refusals or (plan.problems and not force):
        reasons = "".join(f"\n  {line}" for line in plan.refusals + plan.problems)
        hint = "" if plan.refusals else "\n(--force goes on all the same; `check` shows what would be done)"
        raise Refused(f"{plan.verb} refused, nothing was changed:{reasons}{hint}")
    for line in plan.problems:
        print(f"  {line}")
    if plan.problems:
        print(RISK)


def _print_version(plan: Plan) -> None:
    print(plan.match.title())


def _print_lines(title: str, plan: Plan) -> None:
    print(title)
    for label, name in plan.lines:
        print(f"  {label:8}{name}")


def _copied_by_hand(plan: Plan) -> str | None:
    """How much of the patch a checkout without a manifest already holds, None for nothing."""
    count = Counter(label for label, _ in plan.lines)
    copied = count["same"] + sum("copied without this installer" in line for line in plan.refusals)
    total = len(plan.manifest_after.files)
    return f"{copied} of {total} files" if copied else None


def _patch_state(plan: Plan, manifest: Manifest | None, changed: list[str]) -> str:
    wanted = plan.manifest_after.patch_version
    if manifest is None:
        by_hand = _copied_by_hand(plan)
        return f"not applied by this command, but copied in: {by_hand}" if by_hand else "not applied"
    state = f"applied, ta-opd {manifest.patch_version}, {len(manifest.files)} files"
    if changed:
        return f"{state}, but:"
    return f"{state}, intact" if plan.idle else f"{state}, intact; another patch is at hand ({wanted})"
