"""A set of changes that ends all done or all undone.

First the old and new content of every file is kept aside, then the journal is put in place by one rename: that is the
commit point. Before it nothing of the checkout has changed and an interrupted run is forgotten; after it the next call
carries the changes on, in the direction the journal names. An error on the way (disk full, no permission) turns the
journal round, so that the changes already made are undone.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from .patch_tree import FileState, Refused, check_relative, obstacle, read_state
from .plan import Change, Plan
from .store import FORMAT, Manifest, Store, remove_if_empty


@dataclass(frozen=True)
class Journal:
    """What a run set out to change; `forward` until an error turns it round."""

    verb: str
    changes: list[Change]
    new_dirs: list[str]
    old_dirs: list[str]
    manifest_before: Manifest | None
    manifest_after: Manifest | None
    forward: bool = True

    def as_json(self) -> dict:
        data = {"format": FORMAT, **asdict(self)}
        for key in ("manifest_before", "manifest_after"):
            data[key] = getattr(self, key) and getattr(self, key).as_json()
        return data

    @staticmethod
    def from_json(data: dict) -> "Journal":
        states = ("before", "after")
        data = {key: value for key, value in data.items() if key != "format"}
        data["changes"] = [
            Change(check_relative(item["name"]), *(FileState(**item[key]) if item[key] else None for key in states))
            for item in data["changes"]
        ]
        for key in ("manifest_before", "manifest_after"):
            data[key] = Manifest.from_json(data[key]) if data[key] else None
        for name in [*data["new_dirs"], *data["old_dirs"]]:
            check_relative(name)
        return Journal(**data)


def execute(store: Store, plan: Plan) -> None:
    """Make the plan's changes, all or none. Raises Refused, with everything as before, when one cannot be made."""
    # New files come first and slime's own last, so that a checkout caught in between still imports.
    changes = sorted(plan.changes, key=lambda change: (change.after is None, change.before is not None, change.name))
    journal = Journal(plan.verb, changes, plan.new_dirs, plan.old_dirs, plan.manifest_before, plan.manifest_after)
    try:
        for (name, _), content in plan.contents.items():
            store.keep(name, content)
        store.write_json(store.journal_path, journal.as_json())
    except OSError as error:
        store.journal_path.unlink(missing_ok=True)
        store.sweep()
        raise Refused(f"{plan.verb} failed before anything was changed: {error}") from error
    try:
        _settle(store, journal, force=True)
    except OSError as error:
        back = replace(journal, forward=False)
        store.write_json(store.journal_path, back.as_json())
        _settle(store, back, force=True)
        store.sweep()
        raise Refused(f"{plan.verb} failed and was undone: {error}") from error
    store.sweep()


def recover(store: Store, force: bool = False) -> str | None:
    """Complete what an interrupted run left; one line saying what was done, None if there was nothing.

    Raises Refused when a file was changed by somebody else in the meantime, unless `force`; when one has become a link
    or a directory, always."""
    data = store.read_json(store.journal_path)
    if data is None:
        stale = store.sweep()
        return "cleared the remains of an interrupted run; no file of slime was half done" if stale else None
    journal = Journal.from_json(data)
    _settle(store, journal, force)
    store.sweep()
    return f"an earlier {journal.verb} was interrupted: {'finished it' if journal.forward else 'undid it'}"


def _settle(store: Store, journal: Journal, force: bool) -> None:
    """Bring every file to its end state in the journal's direction. May be repeated at will."""
    steps = [(change.name, change.before, change.after) for change in journal.changes]
    manifest = journal.manifest_after
    gone_dirs = journal.old_dirs
    if not journal.forward:
        steps = [(name, after, before) for name, before, after in reversed(steps)]
        manifest, gone_dirs = journal.manifest_before, journal.new_dirs
    for name, source, target in steps:
        why_not = obstacle(store.root, name, write=False)
        if why_not:
            raise Refused(why_not)
        if not force and _foreign(store.root / name, source, target):
            raise Refused(
                f"{name} was changed after a run was interrupted: remove it to let the run finish, or lose the changes "
                "with `apply --force`"
            )
    for name, _, target in steps:
        _bring(store, name, target)
    for name in sorted(gone_dirs, key=lambda name: len(PurePosixPath(name).parts), reverse=True):
        remove_if_empty(store.root / name / "__pycache__")
        remove_if_empty(store.root / name)
    if manifest is None:
        store.manifest_path.unlink(missing_ok=True)
    else:
        store.write_json(store.manifest_path, manifest.as_json())
    store.journal_path.unlink()


def _foreign(path: Path, source: FileState | None, target: FileState | None) -> bool:
    """Whether a file found after an interruption holds neither what was there before nor what was to come."""
    there = read_state(path)
    return there is not None and there.sha256 not in {state.sha256 for state in (source, target) if state}


def _bring(store: Store, name: str, target: FileState | None) -> None:
    path = store.root / name
    there = read_state(path)
    if target is None:
        path.unlink(missing_ok=True)
    elif there is None or there.sha256 != target.sha256:
        content = store.kept_content(name, target.sha256)
        if content is None:
            raise Refused(f"{store.kept_path(name, target.sha256)} is gone or damaged: {name} cannot be completed")
        path.parent.mkdir(parents=True, exist_ok=True)
        store.write(path, content, target.mode)
    _drop_bytecode(path)


def _drop_bytecode(path: Path) -> None:
    cache = path.parent / "__pycache__"
    for stale in cache.glob(f"{path.stem}.*.pyc"):
        stale.unlink()
    if not path.exists():
        remove_if_empty(cache)
