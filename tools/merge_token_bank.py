"""Many rollouts and runs of token banks into one Parquet file: `merge_token_bank.py INPUTS... --output FILE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "slime_patch"))

from token_bank_merge.merging import BrokenFiles, Report, Settings, merge

EPILOG = """\
INPUTS are rollout files (rollout_000012.parquet, .csv, .jsonl), token-bank directories, run directories (with a
token_bank inside), suite directories (with runs/*/token_bank or engine/runs/*/token_bank), and quoted globs of those.

The table is ordered by run, rollout and row, whatever the order of the inputs, and never held in memory. source_run is
the run's directory, with as many of its parents as tell two runs of one name apart; source_file is the file under it.

FILE.manifest.json beside the table has every run's settings, the settings in which runs differ, and what was skipped.

A rollout that is there twice (two formats, a copy, a run and its resumption under one name) is refused, and so are
files whose columns differ. A file that a killed writer left (.tmp) is broken only where its rollout is missing.

exit codes:
  0  written
  1  the table could not be written (disk, permissions); an older one is still there
  2  refused, broken files without --skip-broken, or wrong usage; nothing was written

examples:
  python tools/merge_token_bank.py out/suite/runs/teachability-0.10-seed42 --output teachability.parquet
  python tools/merge_token_bank.py out/suite --output suite.parquet --drop-raw-topk
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; --help has the rest."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="merge_token_bank.py",
        description="Merge the token banks of many rollouts and runs into one Parquet file.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUTS", help="rollout files, directories, globs")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the Parquet file to write")
    parser.add_argument("--drop-raw-topk", action="store_true", help="leave the four raw top-k lists out")
    parser.add_argument("--no-source-cols", action="store_true", help="leave source_file and source_run out")
    parser.add_argument("--skip-broken", action="store_true", help="list broken files and merge the others")
    parser.add_argument(
        "--fill-missing", action="store_true", help="fill columns that some files lack, as of older schemas, with nulls"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    settings = Settings(
        drop_raw_topk=options.drop_raw_topk,
        source_columns=not options.no_source_cols,
        skip_broken=options.skip_broken,
        fill_missing=options.fill_missing,
    )
    try:
        print_report(merge(options.inputs, options.output, settings), options.output)
    except BrokenFiles as error:
        for broken in error.files:
            print(f"broken: {broken}", file=sys.stderr)
        count = f"{len(error.files)} broken file{'s' if len(error.files) > 1 else ''}"
        print(f"merge_token_bank.py: error: {count}; --skip-broken merges the others", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"merge_token_bank.py: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"merge_token_bank.py: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("merge_token_bank.py: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


def print_report(report: Report, output: Path) -> None:
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    for broken in report.skipped:
        print(f"skipped: {broken}", file=sys.stderr)
    runs = report.manifest["runs"]
    rollouts = sum(len(run["rollouts"]) for run in runs.values())
    skipped = f", {len(report.skipped)} skipped" if report.skipped else ""
    print(f"{output}: {report.manifest['rows']:,} tokens of {rollouts:,} rollouts of {len(runs):,} runs{skipped}")
    names = ", ".join(report.manifest["differing_options"])
    if names:
        print(f"the runs differ in {names}: {output.name}.manifest.json has the values")


if __name__ == "__main__":
    sys.exit(main())
