"""What both commands share: one-line errors, the checkouts, and running one of slime's tools or showing how."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

GRACE_S = 10


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; --help has the rest."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


class ToolFailed(RuntimeError):
    """One of slime's tools ended with an error, or wrote something that is no model; the output was not touched."""


@dataclass(frozen=True)
class Command:
    """words: the program and its arguments. variables: those added to this process's environment."""

    words: list[str]
    variables: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """As a line for a shell."""
        return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in self.variables.items()), *self.quoted()])

    def quoted(self) -> list[str]:
        return [shlex.quote(word) for word in self.words]

    def run(self, keep_open: int) -> None:
        """Run to the end in a session of its own, its output passed on; keep_open: a file descriptor it inherits, so
        that a lock on it lasts as long as the tool does. Raises ToolFailed."""
        environment = os.environ | self.variables
        try:
            process = subprocess.Popen(self.words, env=environment, pass_fds=[keep_open], start_new_session=True)
        except OSError as error:
            raise ToolFailed(f"{self.words[0]} cannot be run: {error.strerror}") from error
        code = None
        try:
            code = process.wait()
        finally:
            if code != 0:
                end_session(process)
        if code:
            raise ToolFailed(f"slime's tool ended with exit code {code}: {self}")


def end_session(process: subprocess.Popen) -> None:
    """TERM to what is left of the process's session, KILL after a grace period."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
            return


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """TERM and HUP unwind the stack as Ctrl-C does, so that the tool is ended and its files are removed."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("slime and Megatron")
    group.add_argument(
        "--slime-dir",
        metavar="DIR",
        default=os.environ.get("SLIME_DIR"),
        help="the slime checkout whose tools convert (default: $SLIME_DIR)",
    )
    group.add_argument(
        "--megatron-dir",
        metavar="DIR",
        default=os.environ.get("MEGATRON_LM_DIR"),
        help="Megatron-LM with slime's patch (default: $MEGATRON_LM_DIR; none: the installed one)",
    )
    group.add_argument("--python", default=sys.executable, help="the Python with slime's packages (default: this one)")
    parser.add_argument("--force", action="store_true", help="replace an output that exists, once the new one is whole")
    parser.add_argument("--dry-run", action="store_true", help="print what would be run, and run and write nothing")


def exit_code(prog: str, work: Callable[[], None]) -> int:
    """0 when work() succeeds; 2 and one line for a mistake of the person's; 1 when slime's tool failed."""
    try:
        with terminated_like_interrupted():
            work()
    except ToolFailed as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{prog}: interrupted; no output was written", file=sys.stderr)
        return 130
    return 0
