"""`.ta_opd_patch/` inside a checkout: the manifest, the originals that were replaced, the journal and the lock."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .patch_tree import FileState, Refused, check_relative, digest

DIRECTORY = ".ta_opd_patch"
FORMAT = 1
NO_LOCKS_HERE = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}


@dataclass(frozen=True)
class Entry:
    """One installed file: what was there before the first apply (None: nothing), and what apply put there."""

    before: FileState | None
    after: FileState


@dataclass(frozen=True)
class Manifest:
    """What is installed. `created_dirs` are the directories that apply made; `forced` what --force went past."""

    patch_version: str
    slime_version: str
    time: str
    files: dict[str, Entry]
    created_dirs: list[str] = field(default_factory=list)
    forced: list[str] = field(default_factory=list)

    def as_json(self) -> dict:
        return {"format": FORMAT, **asdict(self)}

    @staticmethod
    def from_json(data: dict) -> "Manifest":
        fields = {key: value for key, value in data.items() if key not in ("format", "files")}
        for name in [*data["files"], *data["created_dirs"]]:
            check_relative(name)
        files = {
            name: Entry(FileState(**entry["before"]) if entry["before"] else None, FileState(**entry["after"]))
            for name, entry in data["files"].items()
        }
        return Manifest(files=files, **fields)


class Store:
    """The installer's own directory in the checkout `root`. Nothing is created before `lock`."""

    def __init__(self, root: Path):
        self.root = root
        self.directory = root / DIRECTORY
        self.kept = self.directory / "kept"
        self.manifest_path = self.directory / "manifest.json"
        self.journal_path = self.directory / "journal.json"
        self.lock_path = self.directory / "lock"

    def read_manifest(self) -> Manifest | None:
        data = self.read_json(self.manifest_path)
        try:
            return None if data is None else Manifest.from_json(data)
        except (KeyError, TypeError, AttributeError) as error:
            raise Refused(f"{self.manifest_path} is no record of this installer ({error!r}); restore it") from error

    def interrupted(self) -> bool:
        """Whether a run ended early, or has not ended: a journal, or our directory without a manifest."""
        return self.journal_path.exists() or (self.directory.is_dir() and not self.manifest_path.exists())

    def read_json(self, path: Path) -> dict | None:
        """A record of ours, None when it is not there. Raises Refused when it cannot be trusted."""
        if not path.exists():
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise Refused(
                f"{path} is unreadable ({error}); restore it, or remove {self.directory} and start over"
            ) from error
        found = data.get("format") if isinstance(data, dict) else None
        if found != FORMAT:
            raise Refused(f"{path} was written by another release of this installer (format {found!r})")
        return data

    def write_json(self, path: Path, data: dict) -> None:
        self.write(path, (json.dumps(data, indent=1) + "\n").encode())

    def write(self, path: Path, content: bytes, mode: int = 0o644) -> None:
        """Atomic and durable: after a crash `path` has its old or its new content, whole."""
        partial = self.directory / "partial"
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.chmod(mode)
        partial.replace(path)
        sync_directory(path.parent)

    def kept_path(self, name: str, sha256: str) -> Path:
        return self.kept / f"{Path(name).name}.{sha256[:16]}"

    def keep(self, name: str, content: bytes) -> None:
        """Keep a copy, addressed by its content, for undoing or redoing a change."""
        path = self.kept_path(name, digest(content))
        if not (path.exists() and digest(path.read_bytes()) == digest(content)):
            self.kept.mkdir(exist_ok=True)
            self.write(path, content)

    def kept_content(self, name: str, sha256: str) -> bytes | None:
        """The kept copy, None when it is gone or damaged."""
        path = self.kept_path(name, sha256)
        content = path.read_bytes() if path.is_file() else None
        return content if content is not None and digest(content) == sha256 else None

    def sweep(self) -> bool:
        """Remove what no manifest refers to, all of it when there is none. True if anything of a past run lay about."""
        manifest = self.read_manifest()
        files = manifest.files if manifest else {}
        wanted = {self.kept_path(name, entry.before.sha256) for name, entry in files.items() if entry.before}
        stale = [path for path in self.kept.glob("*") if path not in wanted]
        stale += [path for path in [self.directory / "partial"] if path.exists()]
        for path in stale:
            path.unlink()
        remove_if_empty(self.kept)
        return bool(stale)

    @contextmanager
    def lock(self, shared: bool = False) -> Iterator[None]:
        """Hold the checkout, alone or with other readers; a second holder is refused, not queued."""
        if self.directory.is_symlink() or (self.directory.exists() and not self.directory.is_dir()):
            raise Refused(f"{self.directory} is not a directory of ours: remove it")
        if not shared and not os.access(self.root, os.W_OK | os.X_OK):
            raise Refused(f"no permission to write in {self.root}")
        if shared and not os.access(self.directory, os.W_OK):
            yield  # a read-only checkout: nobody here can be writing
            return
        descriptor = self._open_lock(shared)
        try:
            if not shared and not (self.directory / ".gitignore").exists():
                (self.directory / ".gitignore").write_text("*\n")
            try:
                yield
            finally:
                if not shared and not self.manifest_path.exists() and not self.journal_path.exists():
                    self.sweep()
                    (self.directory / ".gitignore").unlink(missing_ok=True)
                    self.lock_path.unlink(missing_ok=True)
                    remove_if_empty(self.directory)
        finally:
            os.close(descriptor)

    def _open_lock(self, shared: bool) -> int:
        while True:
            self.directory.mkdir(exist_ok=True)
            try:
                descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                continue  # the last holder removed the directory in between
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(descriptor)
                raise Refused(f"another install_patch is at work on {self.root}: wait for it to end") from error
            except OSError as error:
                if error.errno not in NO_LOCKS_HERE:
                    raise
            if self.lock_path.exists() and os.path.samestat(os.fstat(descriptor), self.lock_path.stat()):
                return descriptor
            os.close(descriptor)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_if_empty(path: Path) -> None:
    """Remove an empty directory; leave one that is missing or holds anything."""
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        path.rmdir()
