"""The patch's files, the state of one file on disk, and which paths of a checkout are safe to write."""

import fnmatch
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

LEFTOVERS = (
    ".*", "__pycache__", "*.pyc", "*.pyo", "*~", "#*#", "*.swp", "*.swo", "*.bak", "*.orig", "*.rej", "*.tmp",
    "*.egg-info",
)  # fmt: skip


class Refused(ValueError):
    """Something the installer will not do; the text is what the user reads."""


@dataclass(frozen=True)
class FileState:
    """Content and permission bits of one regular file."""

    sha256: str
    mode: int


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def text_digest(data: bytes) -> str:
    """Hash with Windows line endings read as Unix ones: a checkout made with autocrlf is still that slime."""
    return digest(data.replace(b"\r\n", b"\n"))


def read_state(path: Path) -> FileState | None:
    """State of a regular file, None when nothing is there."""
    if not path.exists():
        return None
    return FileState(digest(path.read_bytes()), stat.S_IMODE(path.stat().st_mode))


def creation_mode(source: Path) -> int:
    """Permission bits `cp` would give a new copy of `source`."""
    umask = os.umask(0)
    os.umask(umask)
    return stat.S_IMODE(source.stat().st_mode) & 0o777 & ~umask


def is_leftover(relative: PurePosixPath | Path) -> bool:
    """Caches, hidden files and what editors leave behind: never part of the patch."""
    return any(fnmatch.fnmatchcase(part, pattern) for part in relative.parts for pattern in LEFTOVERS)


def patch_files(patch_dir: Path) -> dict[str, Path]:
    """Every file of the patch: path inside the checkout -> file to copy. Raises Refused if there is none, or a link."""
    if not patch_dir.is_dir():
        raise Refused(f"no patch at {patch_dir}: run this from a complete ta-opd checkout, or give --patch-dir")
    files = {}
    for source in sorted(patch_dir.rglob("*")):
        relative = source.relative_to(patch_dir)
        if is_leftover(relative):
            continue
        if source.is_symlink():
            raise Refused(f"the patch itself holds a symbolic link, {source}: replace it by the file")
        if source.is_file():
            files[relative.as_posix()] = source
    if not files:
        raise Refused(f"the patch at {patch_dir} is empty")
    return files


def patch_version(patch_dir: Path) -> str:
    """`version` of the pyproject.toml beside the patch; tomllib is too new for Python 3.10."""
    project = patch_dir.parent / "pyproject.toml"
    found = (
        re.search(r'^version\s*=\s*"([^"]+)"', project.read_text(encoding="utf-8"), re.M) if project.exists() else None
    )
    return found[1] if found else "unknown"


def check_relative(name: str) -> str:
    """Refuse a recorded path that would leave the checkout."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise Refused(f"{name!r} in .ta_opd_patch is not a path inside the checkout; the record was tampered with")
    return name


def obstacle(root: Path, name: str, write: bool = True) -> str | None:
    """Why the file `name` of the checkout `root` is not ours to handle (or, with `write`, to replace), or None."""
    target = root / name
    if target.is_symlink():
        return f"{name} is a symbolic link to {target.readlink()}: put a regular file there, or remove it"
    if target.exists() and not target.is_file():
        return f"{name} is not a regular file"
    parent = target.parent
    while not os.path.lexists(parent):
        parent = parent.parent
    here = parent.relative_to(root).as_posix()
    if not parent.resolve().is_relative_to(root.resolve()):
        return f"{name}: {here} leads outside the checkout, to {parent.resolve()}"
    if not parent.is_dir():
        return f"{name}: {here} is a file or a broken link where a directory is needed"
    if write and not os.access(parent, os.W_OK | os.X_OK):
        return f"{name}: no permission to write in {parent}"
    return None
