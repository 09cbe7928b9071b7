"""An output folder that is whole or not there, whenever its writer is killed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

NO_LOCKS_HERE = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}


def partial_folder(output: Path) -> Path:
    """Where an output is written before it is renamed: beside it, so that renaming does not copy."""
    return output.with_name(f".{output.name}.partial")


def check_free(output: Path, force: bool) -> None:
    """Raises ValueError when the output exists and must not be replaced."""
    if os.path.lexists(output) and not force:
        raise ValueError(f"--output-dir {output} exists: --force replaces it")


@contextlib.contextmanager
def staged(output: Path, force: bool) -> Iterator[tuple[Path, int]]:
    """Yields a path to create, and the file descriptor of the lock on it; renamed to output when the block ends well.

    A second writer of the same output is refused while the descriptor is open anywhere. What a killed writer left is
    removed by the next one; an output that --force was replacing when it was killed is put back first.
    """
    partial = partial_folder(output)
    partial.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(partial)
    try:
        old, new = partial / "replaced", partial / "new"
        _put_back(old, output)
        check_free(output, force)
        _empty(partial)
        yield new, lock
        if os.path.lexists(output):
            output.rename(old)
        new.rename(output)
    finally:
        _put_back(partial / "replaced", output)
        _empty(partial)
        partial.rmdir()
        os.close(lock)


def _put_back(old: Path, output: Path) -> None:
    if os.path.lexists(old) and not os.path.lexists(output):
        old.rename(output)


def _lock(partial: Path) -> int:
    while True:
        partial.mkdir(exist_ok=True)
        try:
            descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # its writer has just finished
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise ValueError(f"another conversion is writing {partial}; it is left alone") from error
        except OSError as error:
            if error.errno not in NO_LOCKS_HERE:
                raise
        if partial.exists() and partial.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
        os.close(descriptor)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
