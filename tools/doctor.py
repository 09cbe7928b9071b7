"""Looks at everything a run needs before it costs GPU-hours: `doctor.py [--static] [--servers URL...]`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
for part in ("slime_patch", "launch"):
    sys.path.insert(0, str(HERE.parent / part))

from doctor_checks.groups import GROUPS, run_groups  # noqa: E402
from doctor_checks.result import FAILS, WRONG_USAGE, Result, exit_code  # noqa: E402
from doctor_checks.settings import VARIABLES, Settings, flag, gather  # noqa: E402
from doctor_checks.table import row, summary  # noqa: E402

EPILOG = """\
What is looked at comes from flags, then from --settings, then from the launchers' environment variables, then from
their defaults. A planned run's settings.env also has what its pair file says, and its own ports.

exit codes: 0 nothing fails, 1 something fails (with --strict: or warns), 2 wrong usage

examples:
  python tools/doctor.py --static                        # no server, no GPU
  python tools/doctor.py --settings out/ta_opd/runs/teachability-0.10-seed42/settings.env
  python tools/doctor.py --only servers --servers http://teacher:14151 --json
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; --help has the rest."""

    def error(self, message: str):
        self.exit(WRONG_USAGE, f"{self.prog}: error: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="doctor.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="doctor.py [--static] [--servers URL...] [--settings FILE] [--only GROUP...] [any flag below]",
    )
    parser.add_argument("--static", action="store_true", help="ask no server and look at no GPU")
    parser.add_argument(
        "--servers", nargs="+", metavar="URL", default=[], help="running teachers (default: TEACHER_URL)"
    )
    parser.add_argument("--settings", type=Path, metavar="FILE", help="settings.env or settings.json of a planned run")
    parser.add_argument("--only", nargs="+", choices=GROUPS, metavar="GROUP", help=f"some of: {', '.join(GROUPS)}")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--strict", action="store_true", help="warnings fail too")
    parser.add_argument(
        "--prompt-rows", type=_positive, default=100_000, help="most prompts read (default: %(default)s)"
    )
    parser.add_argument("--timeout", type=_seconds, default=120.0, help="seconds for a request (default: %(default)s)")
    parser.add_argument("--concurrency", type=_positive, default=64, help="requests in flight (default: %(default)s)")
    parser.add_argument(
        "--teacher-seconds",
        type=_seconds,
        default=300.0,
        help="a rollout's scoring is slow above this (default: %(default)s)",
    )
    variables = parser.add_argument_group("what the launchers' variables say", "each flag has its variable's name")
    for name, variable in VARIABLES.items():
        default = variable.default.replace("%", "%%")
        told = f"{variable.meaning} (default: {default})" if default else variable.meaning
        variables.add_argument(flag(name), dest=name, metavar="VALUE", help=told)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Check, print, and return the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.static and options.servers:
        parser.error("--static asks no server: give --servers without it")
    try:
        given = {name: getattr(options, name) for name in VARIABLES}
        values, planned_run = gather(given, os.environ, options.settings)
        settings = Settings(
            values,
            planned_run,
            options.static,
            tuple(options.servers),
            options.prompt_rows,
            options.timeout,
            options.concurrency,
            options.teacher_seconds,
        )
        _check_urls(settings)
    except ValueError as error:
        parser.error(str(error))
    if os.environ.get("PAIR") and not options.settings:
        print(
            "doctor.py: note: what PAIR's file says is in a planned run's settings alone: --settings", file=sys.stderr
        )
    try:
        results = _report(options.only or list(GROUPS), settings, options.json, options.strict)
    except BrokenPipeError:  # whoever read the table has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILS
    return exit_code(results, options.strict)


def _report(groups: list[str], settings: Settings, as_json: bool, strict: bool) -> list[Result]:
    """Prints the findings as they come, or at the end as one JSON object."""
    start, width, colour = time.monotonic(), shutil.get_terminal_size((120, 24)).columns, sys.stdout.isatty()
    found: list[tuple[str, Result]] = []
    for group, result in run_groups(groups, settings):
        if not as_json:
            if not found or found[-1][0] != group:
                print(group)
            print(row(result, width, colour), flush=True)
        found.append((group, result))
    results = [result for _, result in found]
    if as_json:
        checks = [result.as_json(group) for group, result in found]
        print(json.dumps({"exit_code": exit_code(results, strict), "strict": strict, "checks": checks}, indent=1))
    else:
        print(summary(results, time.monotonic() - start))
    return results


def _check_urls(settings: Settings) -> None:
    for url in settings.urls:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"--servers {url!r} must be http://host:port or http://host:port/generate")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be above 0")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
