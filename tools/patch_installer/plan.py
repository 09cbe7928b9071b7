"""What apply and revert would do, file by file, and what stands against it. Changes nothing."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .patch_tree import FileState, creation_mode, digest, obstacle, read_state
from .store import Entry, Manifest, Store
from .versions import UNKNOWN, Known, Match, committed, fingerprint, identify


@dataclass(frozen=True)
class Change:
    """One file to write or remove: what is there now and what will be, None for nothing."""

    name: str
    before: FileState | None
    after: FileState | None


@dataclass
class Plan:
    """Changes, the reasons not to make them, and the manifest that holds once they are made.

    `problems` yield to --force, `refusals` do not. `contents` holds (name, sha256) -> bytes to be written or kept."""

    verb: str
    match: Match
    manifest_before: Manifest | None
    manifest_after: Manifest | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    contents: dict[tuple[str, str], bytes] = field(default_factory=dict)
    new_dirs: list[str] = field(default_factory=list)
    old_dirs: list[str] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        """Everything is already as it should be."""
        before, after = self.manifest_before, self.manifest_after
        same = before == after if None in (before, after) else before.files == after.files
        return same and not self.changes and (after is None or before.patch_version == after.patch_version)

    def change(
        self, root: Path, name: str, now: FileState | None, after: FileState | None, content: bytes | None, label: str
    ) -> None:
        """Plan to bring `name` from `now` to `after`, whose bytes are `content`."""
        self.lines.append((label, name))
        why_not = obstacle(root, name)
        if why_not:
            self.refusals.append(why_not)
            return
        if now is not None:
            self.contents[name, now.sha256] = (root / name).read_bytes()
        if after is not None:
            self.contents[name, after.sha256] = content
        self.changes.append(Change(name, now, after))


def match_checkout(store: Store, known: Known, patch: dict[str, Path], manifest: Manifest | None) -> Match:
    """The version of the checkout as it would be without the patch."""
    seen = {}
    for name in known.relied_on:
        path = store.root / name
        seen[name] = fingerprint(path)
        entry = manifest.files.get(name) if manifest else None
        if entry and entry.before and not (seen[name] and known.is_upstream(name, seen[name])):
            kept = store.kept_path(name, entry.before.sha256)
            seen[name] = fingerprint(kept) or UNKNOWN
        elif entry is None and name in patch and seen[name] is not None and digest_of(path) == digest_of(patch[name]):
            seen[name] = UNKNOWN
    return identify(seen, known)


def digest_of(path: Path) -> str | None:
    return digest(path.read_bytes()) if path.is_file() else None


def plan_apply(
    store: Store, known: Known, patch: dict[str, Path], version: str, manifest: Manifest | None, now: str
) -> Plan:
    """Bring the checkout to this patch, from no patch, from an older one, from a hand-made copy or from part of one."""
    root, match = store.root, match_checkout(store, known, patch, manifest)
    plan = Plan("apply", match, manifest)
    plan.problems += [f"{line} [relied-on file of slime]" for line in match.differences]
    recorded = manifest.files if manifest else {}
    files = {}
    for name, source in patch.items():
        files[name] = _plan_file(plan, store, name, source.read_bytes(), creation_mode(source), recorded.get(name))
    for name, entry in recorded.items():
        if name not in patch:
            _plan_restore(plan, store, known, name, entry, "no longer in the patch: ")
    dirs = _created_dirs(root, files, manifest)
    plan.new_dirs = [name for name in dirs if not (root / name).exists()]
    plan.old_dirs = [name for name in (manifest.created_dirs if manifest else []) if name not in dirs]
    plan.manifest_after = Manifest(
        version, match.name if match.exact else f"unknown, closest {match.name}", now, files, dirs
    )
    return plan


def _plan_file(plan: Plan, store: Store, name: str, content: bytes, mode: int, recorded: Entry | None) -> Entry:
    """Decide about one file of the patch; returns its manifest entry."""
    root, expected = store.root, plan.match.files.get(name)
    why_not = obstacle(root, name, write=False)
    if why_not:
        plan.refusals.append(why_not)
        return Entry(None, FileState(digest(content), mode))
    there, wanted = read_state(root / name), digest(content)
    upstream = there is not None and expected is not None and fingerprint(root / name) == expected
    same = there is not None and there.sha256 == wanted
    if recorded:
        before = recorded.before
        if there and there.sha256 not in {recorded.after.sha256, wanted, before.sha256 if before else None}:
            if upstream:
                before = there
            else:
                plan.problems.append(f"{name} was edited since it was installed: the edits would be lost")
    elif same and expected is not None and not upstream:
        original = committed(root, name, expected)
        if original is None:
            plan.refusals.append(
                f"{name} is already the patch's, copied without this installer, and slime's own is not at hand "
                f"to keep: put it back first (git checkout -- {name})"
            )
            return Entry(None, there)
        before = FileState(digest(original), there.mode)
        plan.contents[name, before.sha256] = original
    else:
        before = None if same else there
        if there and not same and not upstream and name not in plan.match.files:
            plan.problems.append(f"{name} already exists with other content, and is not slime's: it would be replaced")
    after = FileState(wanted, before.mode if before else there.mode if same else mode)
    if same:
        plan.lines.append(("same", name))
        after = recorded.after if recorded and recorded.after.sha256 == wanted else after
    else:
        label = "new" if there is None else "update" if recorded and not upstream else "replace"
        plan.change(root, name, there, after, content, label)
    return Entry(before, after)


def _plan_restore(plan: Plan, store: Store, known: Known, name: str, entry: Entry, why: str = "") -> None:
    """Put back what stood at `name` before the patch, or nothing."""
    root, before = store.root, entry.before
    why_not = obstacle(root, name, write=False)
    if why_not:
        plan.refusals.append(why_not)
        return
    there = read_state(root / name)
    if there == before or (there and before and there.sha256 == before.sha256):
        plan.lines.append(("same", name))
        plan.changes.append(Change(name, there, there))  # its stale bytecode still has to go
        return
    if there and there.sha256 != entry.after.sha256:
        if known.is_upstream(name, fingerprint(root / name)):
            plan.lines.append(("leave", f"{name} (slime's own is back already)"))
            return
        plan.problems.append(f"{why}{name} was edited since it was installed: the edits would be lost")
    original = None
    if before:
        original = store.kept_content(name, before.sha256)
        if original is None:
            plan.refusals.append(
                f"the kept original of {name} is gone or damaged: put it back (git checkout -- {name})"
            )
            return
    plan.change(root, name, there, before, original, "restore" if before else "remove")


def plan_revert(store: Store, known: Known, patch: dict[str, Path], manifest: Manifest) -> Plan:
    """Bring the checkout back to what it was before the first apply."""
    plan = Plan("revert", match_checkout(store, known, patch, manifest), manifest)
    for name, entry in manifest.files.items():
        _plan_restore(plan, store, known, name, entry)
    plan.old_dirs = list(manifest.created_dirs)
    return plan


def _created_dirs(root: Path, files: dict[str, Entry], manifest: Manifest | None) -> list[str]:
    """Directories that only the patch needs: recorded, missing now, or holding nothing but files of the patch."""
    ours = {root / name for name, entry in files.items() if entry.before is None}
    recorded = set(manifest.created_dirs) if manifest else set()
    parents = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents} - {"."}
    created = []
    for name in sorted(parents):
        folder = root / name
        if name in recorded or not folder.exists():
            created.append(name)
        elif not manifest and not folder.is_symlink():
            inside = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
            if inside and all(path in ours for path in inside):
                created.append(name)
    return created


def differences(root: Path, manifest: Manifest) -> list[str]:
    """Every installed file that is no longer what was installed, one line each."""
    lines = []
    for name, entry in manifest.files.items():
        found = digest_of(root / name)
        if found is None:
            lines.append(f"{name} is missing")
        elif (root / name).is_symlink():
            lines.append(f"{name} was replaced by a symbolic link")
        elif found != entry.after.sha256:
            back = entry.before and found == entry.before.sha256
            lines.append(f"{name} is slime's own again" if back else f"{name} was changed ({_short(entry, found)})")
    return lines


def _short(entry: Entry, found: str) -> str:
    return f"installed sha256 {entry.after.sha256[:12]}..., found {found[:12]}..."


def damaged_originals(store: Store, manifest: Manifest) -> list[str]:
    """Replaced files whose kept original is gone or changed: revert could not restore them."""
    return [
        f"{name}: the kept original is gone or damaged"
        for name, entry in manifest.files.items()
        if entry.before and store.kept_content(name, entry.before.sha256) is None
    ]
