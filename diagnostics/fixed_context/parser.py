"""The command line of every command here."""

from __future__ import annotations

import argparse

USAGE_ERROR = 2


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; --help has the rest."""

    def error(self, message: str):
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n")


def os_error_line(error: OSError) -> str:
    """What the system refused, with the file where it names one."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)
