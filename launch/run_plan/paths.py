"""Folders and files that the settings name. Imports nothing heavy: the launchers ask for SUITE_DIR first of all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .pair_files import pair_path, read_pair
from .variables import VARIABLES

SOCKET_ROOM = 42
"""Bytes left for Ray's temporary folder: a socket's path holds 107, `/session_<time>_<pid>/sockets/plasma_store` 65."""


def absolute(path: str) -> str:
    """The path from the root, `~` expanded, links kept; nothing stays nothing. Raises ValueError for nobody's home."""
    try:
        return os.path.normpath(Path(path).expanduser().absolute()) if path else ""
    except RuntimeError as error:
        raise ValueError(f"{path!r}: nobody's home directory") from error


def suite_dir(environment: Mapping[str, str]) -> Path:
    """TAG in OUTPUT_ROOT, from the environment and its pair file. Raises ValueError where one of them is wrong,
    and for a switch that is neither on nor off: the launchers ask this first."""
    table = {variable.name: variable for variable in VARIABLES}
    pair = environment.get("PAIR", "")
    given = read_pair(pair_path(pair)) if pair else {}
    given |= {name: text for name, text in environment.items() if text}
    for variable in VARIABLES:
        if variable.kind == "switch" and given.get(variable.name):
            variable.parse(given[variable.name])
    root, tag = (
        table[name].parse(given[name]) if given.get(name) else table[name].default for name in ("OUTPUT_ROOT", "TAG")
    )
    return Path(absolute(root)) / (tag or (pair_path(pair).stem if pair else "ta_opd"))


def check_ray_temp_dir(path: str) -> None:
    """Raises ValueError for a path under which Ray's sockets would have too long a name."""
    length = len(os.fsencode(path))
    if length > SOCKET_ROOM:
        raise ValueError(f"RAY_TEMP_DIR {path!r} has {length} bytes; Ray's sockets leave room for {SOCKET_ROOM}")


def model_script(slime_dir: str, name: str) -> Path:
    """slime's model arguments: a name in scripts/models, or a path."""
    if "/" in name or name.endswith(".sh"):
        return Path(absolute(name))
    return Path(slime_dir) / "scripts" / "models" / f"{name}.sh"
