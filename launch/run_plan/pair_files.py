"""Pair files: defaults of a teacher and a student as `NAME=value` lines that bash could source too.

Read here and never run: a value is plain characters, or quoted, with nothing that a shell would expand.
"""

from __future__ import annotations

import re
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

_LINE = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_]*)=
    (?: '(?P<single>[^']*)' | "(?P<double>[^"$`\\!]*)" | (?P<bare>[A-Za-z0-9_./:,@%+=-]*) )
    (?:\s+\#.*|\s*)""",
    re.VERBOSE,
)


def pair_path(pair: str) -> Path:
    """The file that PAIR names: a path where it has a slash or ends in .sh, else a name in configs/pairs."""
    is_path = "/" in pair or pair.endswith(".sh")
    path = Path(pair) if is_path else CONFIGS / "pairs" / f"{pair}.sh"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (CONFIGS / "pairs").glob("*.sh")))
        raise ValueError(f"PAIR {pair!r}: there is no file {path}; in configs/pairs are {known}")
    return path


def read_pair(path: Path) -> dict[str, str]:
    """Names and values in order. Raises ValueError with the line for what is not `NAME=value` or is given twice."""
    values: dict[str, str] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(
                f"{path}:{number}: {line.strip()!r} is not NAME=value with a plain or quoted value; nothing is "
                "expanded in a pair file"
            )
        name = found["name"]
        if name in values:
            raise ValueError(f"{path}:{number}: {name} is given twice")
        values[name] = next(found[form] for form in ("single", "double", "bare") if found[form] is not None)
    return values


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text") from error
