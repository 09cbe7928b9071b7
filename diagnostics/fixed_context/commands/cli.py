"""What the analysis commands share: one-line errors, exit codes, flags that several of them take, NAME=PATH entries."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from ..parser import USAGE_ERROR, os_error_line
from ..statistics.settings import Columns, Settings


def add_column_flags(parser: argparse.ArgumentParser) -> None:
    """Which columns are what; names of the baseline's columns without base_."""
    default = Columns()
    for name, what in (
        ("gain", "gain, such as G_KLf or G_KLr"),
        ("h", "student entropy"),
        ("d", "disagreement"),
        ("c", "support"),
        ("ht", "teacher entropy"),
        ("pos", "position in the response"),
        ("group", "prompt, the cluster"),
    ):
        field = "position" if name == "pos" else name
        parser.add_argument(
            f"--{name}-col", default=getattr(default, field), metavar="COLUMN", help=f"{what} (default: %(default)s)"
        )


def columns_of(arguments: argparse.Namespace) -> Columns:
    a = arguments
    return Columns(a.gain_col, a.h_col, a.d_col, a.c_col, a.ht_col, a.pos_col, a.group_col)


def add_setting_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """The flags of Settings' fields; all for none named."""
    helps = {
        "q_low": "lower quantile of the normalisation to [0, 1]",
        "q_high": "upper quantile of the normalisation to [0, 1]",
        "h_quantile": "low entropy is below this quantile",
        "d_quantile": "high disagreement is at or above this quantile",
        "low_c_quantile": "low support is at or below this quantile of Q3",
        "high_c_quantile": "high support is at or above this quantile of Q3",
        "winsor_low": "lower quantile to which gains are winsorised",
        "winsor_high": "upper quantile to which gains are winsorised",
        "use_quadrant": "take Q3 from the file's own normalised axes",
        "bootstrap": "replicates over prompts",
        "seed": "seed of the bootstrap, the placebos and the random selector",
    }
    default = Settings()
    for name in names or tuple(helps):
        flag, value = "--" + name.replace("_", "-"), getattr(default, name)
        if isinstance(value, bool):
            parser.add_argument(flag, action="store_true", help=helps[name])
        else:
            parser.add_argument(flag, type=type(value), default=value, help=f"{helps[name]} (default: {value:.4g})")


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Raises ValueError on a value out of range."""
    given = {name: getattr(arguments, name) for name in vars(Settings()) if hasattr(arguments, name)}
    return Settings(**given)


def run_command(
    parser: argparse.ArgumentParser,
    work: Callable[[argparse.Namespace], Sequence[Path]],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse, work, print the files that were written; a person's mistake is one line and exit code 2."""
    arguments = parser.parse_args(argv)
    try:
        written = work(arguments)
    except ValueError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except OSError as error:
        print(f"{parser.prog}: error: {os_error_line(error)}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
    for path in written:
        print(path)
    return 0


def stderr_console() -> Console:
    """Where progress goes: the files that were written are what stdout is for."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else 150)


def named_paths(entries: Sequence[str], flag: str, name: str = "NAME") -> list[tuple[str, Path]]:
    """`NAME=PATH` or `NAME:PATH` entries of a repeatable flag. Raises ValueError on another form or a name twice."""
    pairs: list[tuple[str, Path]] = []
    for entry in entries:
        mark = min((entry.find(m) for m in "=:" if m in entry), default=-1)
        if mark < 1 or mark == len(entry) - 1:
            raise ValueError(f"{flag} {entry!r} must be {name}=PATH")
        if entry[:mark] in (known for known, _ in pairs):
            raise ValueError(f"{flag}: {entry[:mark]!r} is given twice")
        pairs.append((entry[:mark], Path(entry[mark + 1 :])))
    return pairs
