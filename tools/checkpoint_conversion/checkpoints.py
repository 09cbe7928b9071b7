"""Megatron's torch_dist checkpoints on disk: which iteration is meant, and whether all of it is there."""

from __future__ import annotations

import re
from pathlib import Path

TRACKER = "latest_checkpointed_iteration.txt"
RELEASE = "release"
# torch writes .metadata last and names every data file in it. As text in the pickle: nothing of it is executed.
DATA_FILE = re.compile(rb"__\d+_\d+\.distcp")


def iteration_folder(root: Path, iteration: str) -> Path:
    """The folder of an iteration: "latest" (what the tracker file says), "release", or a number.

    Raises:
        ValueError: no tracker file, nothing sensible in it, or no such folder; with the iterations that are there.
    """
    if not root.is_dir():
        raise ValueError(f"--checkpoint-root {root}: no such directory")
    if iteration == "latest":
        tracker = root / TRACKER
        if not tracker.is_file():
            raise ValueError(f"--checkpoint-root {root} has no {TRACKER}: {_there_are(root)}")
        wanted = tracker.read_text(encoding="utf-8").strip()
        where = f"{tracker} says {wanted!r}"
    else:
        wanted = iteration
        where = f"--iteration {iteration}"
    if wanted == RELEASE:
        name = RELEASE
    elif wanted.isascii() and wanted.isdigit():
        name = f"iter_{int(wanted):07d}"
    else:
        raise ValueError(f"{where}: must be latest, release or a number of at least 0; {_there_are(root)}")
    if not (root / name).is_dir():
        raise ValueError(f"{where}, but {root / name} does not exist: {_there_are(root)}")
    return root / name


def check_complete(folder: Path) -> None:
    """Raises ValueError unless every file of the torch_dist checkpoint is there: one that was still being written when
    its run was killed, or that was copied in part, is refused."""
    if not folder.is_dir():
        raise ValueError(f"--input-dir {folder}: no such directory")
    if (folder / TRACKER).is_file():
        raise ValueError(f"--input-dir {folder} holds several iterations: give it as --checkpoint-root")
    missing = [name for name in (".metadata", "common.pt") if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} is no complete torch_dist checkpoint: no {' and no '.join(missing)} in it")
    names = sorted({name.decode() for name in DATA_FILE.findall((folder / ".metadata").read_bytes())})
    if not names:
        raise ValueError(f"{folder} is no complete torch_dist checkpoint: its .metadata names no data file")
    lost = [name for name in names if not (folder / name).is_file() or not (folder / name).stat().st_size]
    if lost:
        what = f"{len(lost)} of {len(names)} data files are missing or empty: {_some(lost)}"
        raise ValueError(f"{folder} is no complete torch_dist checkpoint: {what}")


def _there_are(root: Path) -> str:
    names = sorted(path.name for path in root.iterdir() if re.fullmatch(r"iter_\d{7,}|release", path.name))
    return f"there are {_some(names)}" if names else "there are no iterations in it"


def _some(names: list[str]) -> str:
    """The first and the last of a long list."""
    return ", ".join(names if len(names) <= 6 else [*names[:3], "...", *names[-2:]])
