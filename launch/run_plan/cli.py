"""The command: python -m run_plan {prepare,suite-dir,estimate,check,sweep,variables}."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        print(f"{self.prog.split()[0]}: error: {message}", file=sys.stderr)
        sys.exit(2)


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="run_plan", description="The plan behind the launchers. Settings come from the environment.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    prepare = commands.add_parser("prepare", help="check every setting, write the suite's files, print the runs' names")
    prepare.add_argument("--suite-dir", type=Path, help="where the files go (default: OUTPUT_ROOT/TAG)")
    prepare.add_argument(
        "--dry-run", action="store_true", help="files go to --suite-dir, paths in them stay OUTPUT_ROOT/TAG's"
    )
    prepare.add_argument("--teacher-only", action="store_true", help="ask for what starting the teacher needs alone")
    prepare.set_defaults(run=_prepare)
    where = commands.add_parser("suite-dir", help="print OUTPUT_ROOT/TAG")
    where.set_defaults(run=_suite_dir)
    estimate = commands.add_parser("estimate", help="GPUs, ports, tokens, memory, traffic and files of a prepared run")
    estimate.add_argument("run_dirs", metavar="RUN_DIR", type=Path, nargs="+")
    estimate.set_defaults(run=_estimate)
    check = commands.add_parser("check", help="method YAMLs and pair files against the table of variables")
    check.add_argument("files", type=Path, nargs="+")
    check.set_defaults(run=_check)
    sweep = commands.add_parser("sweep", help="METHODS x RATIOS as a METHOD_LIST")
    sweep.set_defaults(run=_sweep)
    variables = commands.add_parser("variables", help="the table of variables, Markdown")
    variables.set_defaults(run=_variables)
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except ValueError as error:
        print(f"run_plan: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"run_plan: error: {where}{error.strerror}", file=sys.stderr)
        return 1


def _prepare(arguments: argparse.Namespace) -> int:
    from .paths import absolute
    from .plan import plan_suite
    from .plan_files import write_suite
    from .resume import check_begun_runs

    given = None if arguments.suite_dir is None else Path(absolute(str(arguments.suite_dir)))
    if arguments.dry_run and given is None:
        raise ValueError("--dry-run needs --suite-dir, a temporary folder")
    suite = plan_suite(os.environ, None if arguments.dry_run else given, arguments.dry_run, arguments.teacher_only)
    real = Path(suite.variables["SUITE_DIR"])
    check_begun_runs(suite, real)
    write_suite(suite, given or real)
    for run in suite.runs:
        print(run.name)
    return 0


def _suite_dir(arguments: argparse.Namespace) -> int:
    from .paths import suite_dir

    print(suite_dir(os.environ))
    return 0


def _estimate(arguments: argparse.Namespace) -> int:
    from .estimate import estimate_text
    from .plan_files import read_variables

    print("\n".join(estimate_text(read_variables(folder)) for folder in arguments.run_dirs), end="")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from .check import faults

    found = [fault for path in arguments.files for fault in faults(path)]
    for fault in found:
        print(f"run_plan: error: {fault}", file=sys.stderr)
    return 2 if found else 0


def _sweep(arguments: argparse.Namespace) -> int:
    from .method_list import sweep
    from .variables import DEFAULT_SWEEP

    for name in ("METHOD_LIST", "RUN_LIST"):
        if os.environ.get(name):
            raise ValueError(f"{name} {os.environ[name]!r} with a sweep, which makes METHOD_LIST of METHODS and RATIOS")
    print(
        sweep(
            os.environ.get("METHODS") or DEFAULT_SWEEP["METHODS"], os.environ.get("RATIOS") or DEFAULT_SWEEP["RATIOS"]
        )
    )
    return 0


def _variables(arguments: argparse.Namespace) -> int:
    from .table import markdown_table

    print(markdown_table(), end="")
    return 0
