"""One table of the runs of a suite: `summarize_runs.py DIR...` prints it and writes summary.csv and summary.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "slime_patch"))
sys.path.append(str(Path(__file__).resolve().parent.parent / "launch"))

from rich.console import Console
from run_summary.output import csv_text, json_text, markdown, print_table
from run_summary.record import run_record
from run_summary.runs import find_runs, is_suite
from ta_opd.files import write_text

EPILOG = """\
DIR is a suite (with runs/) or a run. One suite's summary.csv and summary.md are written into it; of single runs, and of
several suites together, only with --output. summary.csv has every column; an unknown number is an empty cell, and
`notes` says why.

What is broken or half-written in one run leaves that run's cells empty and hides no other run.

exit codes: 0 summarised, whatever the runs' status; 1 the files could not be written; 2 wrong usage
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; --help has the rest."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="summarize_runs.py",
        description="Summarise the runs of a suite in one table.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="suite or run directories")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where summary.csv and summary.md go (default: the suite)"
    )
    parser.add_argument("--json", action="store_true", help="print the records as JSON in place of the table")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        records = [run_record(run) for run in find_runs(options.directories)]
        output = options.output or _suite(options.directories)
        if options.json:
            sys.stdout.write(json_text(records))
        else:
            terminal = sys.stdout.isatty()
            print_table(Console(width=None if terminal else 150), records)
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            write_text(output / "summary.csv", csv_text(records))
            write_text(output / "summary.md", markdown(records))
    except ValueError as error:
        print(f"summarize_runs.py: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"summarize_runs.py: error: {error}", file=sys.stderr)
        return 1
    return 0


def _suite(directories: list[Path]) -> Path | None:
    """The suite, where one is named and nothing else."""
    suites = {directory.resolve() for directory in directories}
    return suites.pop() if len(suites) == 1 and is_suite(directories[0]) else None


if __name__ == "__main__":
    sys.exit(main())
