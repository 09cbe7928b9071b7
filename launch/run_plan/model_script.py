"""The words of MODEL_ARGS in one of slime's scripts/models/*.sh, read and never run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

_ARRAY = re.compile(r"^MODEL_ARGS=\((.*?)^\s*\)", re.MULTILINE | re.DOTALL)
_DEFAULT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*):-([^}$]*)\}")
_OTHER = re.compile(
    r"""^(?P<set>(?:[A-Z_][A-Z0-9_]*=[^\s"'$]*\s+)*)(?:source|\.)\s.*/(?P<file>[\w.+-]+\.sh)"?\s*$""", re.MULTILINE
)


def read_model_args(path: Path, variables: Mapping[str, str] | None = None) -> list[str]:
    """MODEL_ARGS word by word, `${NAME:-default}` replaced by variables[NAME] or the default; a script that sources its
    neighbour is followed there.

    Raises ValueError naming the file for anything else that a shell would work out.
    """
    variables = dict(variables or {})
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    array, other = _ARRAY.search(text), _OTHER.search(text)
    if array is None and other is not None:
        for setting in shlex.split(other["set"]):
            name, _, value = setting.partition("=")
            variables[name] = value
        return read_model_args(path.parent / other["file"], variables)
    if array is None or "MODEL_ARGS+=" in text:
        raise ValueError(f"{path} has no array MODEL_ARGS that is given in one piece")
    body = _DEFAULT.sub(lambda found: variables.get(found[1]) or found[2], array[1])
    words = shlex.split(body, comments=True)
    if unknown := [word for word in words if "$" in word or "`" in word]:
        raise ValueError(f"{path}: {unknown[0]!r} is worked out by the shell")
    return words
