"""Installs the patch into a slime checkout: `install_patch.py check|apply|verify|revert --slime-dir DIR`."""

import argparse
import os
import sys
from pathlib import Path

from patch_installer import commands
from patch_installer.patch_tree import Refused
from patch_installer.versions import SUPPORT

HERE = Path(__file__).resolve().parent
EPILOG = """\
A plain `cp -r slime_patch/. $SLIME_DIR/` installs the same files. This command also knows which slime it is dealing
with, refuses to overwrite what is not its own, and can undo itself: the file of slime that the patch replaces, and the
record of what was installed, are kept in DIR/.ta_opd_patch/.

A run that is killed leaves a journal there. The next call of any subcommand, `check` included, finishes what had begun
or clears what had not, and says which.

A checkout that was patched with cp is adopted by `apply`. Slime's own on_policy_distillation.py is then taken from git;
where git does not have it, apply refuses and asks for `git checkout -- slime/rollout/on_policy_distillation.py` first.

--force goes past an unknown slime, changed files of slime, files in the way and edits of installed files. It never goes
through symbolic links or missing write permission.

exit codes:
  0  fine: applied and intact, or apply would go through; the command did its work or had nothing to do
  1  differs: verify or check found installed files (or, once applied, relied-on files of slime) changed, or verify
     found no installation
  2  refused, or wrong usage; nothing was changed

examples:
  export SLIME_DIR=~/slime
  python tools/install_patch.py check
  python tools/install_patch.py apply
  python tools/install_patch.py fingerprint --name v0.3.2     # from an untouched checkout: teach it a new slime
"""
SUBCOMMANDS = {
    "check": (commands.check, "say what the checkout is and what apply would do; changes nothing"),
    "apply": (commands.apply, "install the patch, or bring an older one up to date"),
    "verify": (commands.verify, "compare the installed files with what was installed"),
    "revert": (commands.revert, "restore the checkout to what it was before"),
    "fingerprint": (
        commands.fingerprint,
        "record the hashes of an untouched checkout as a known version (maintainers)",
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--slime-dir",
        metavar="DIR",
        default=os.environ.get("SLIME_DIR"),
        help="the slime checkout (default: $SLIME_DIR)",
    )
    common.add_argument(
        "--patch-dir", type=Path, default=HERE.parent / "slime_patch", help="the patch (default: %(default)s)"
    )
    common.add_argument(
        "--versions", type=Path, default=HERE / "slime_versions.json", help="the known versions (default: %(default)s)"
    )
    parser = argparse.ArgumentParser(
        prog="install_patch.py",
        description="Install the ta-opd patch into a slime checkout, and take it out again.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="check|apply|verify|revert|fingerprint")
    for name, (_, text) in SUBCOMMANDS.items():
        sub = subparsers.add_parser(name, parents=[common], help=text, description=text)
        if name in ("apply", "revert"):
            sub.add_argument("--force", action="store_true", help="go on past problems; says what that risks")
        if name == "fingerprint":
            sub.add_argument("--name", required=True, help="what to call the version, e.g. v0.3.2")
            sub.add_argument("--support", choices=sorted(SUPPORT), default="full", help="what of the patch works there")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    options = build_parser().parse_args(arguments)
    run = SUBCOMMANDS[options.command][0]
    extra = {"name": options.name, "support": options.support} if options.command == "fingerprint" else {}
    try:
        root = commands.find_checkout(options.slime_dir)
        return run(commands.Setup(root, options.patch_dir, options.versions, getattr(options, "force", False)), **extra)
    except Refused as error:
        print(f"install_patch: {error}", file=sys.stderr)
    except OSError as error:
        print(f"install_patch: {error}; `check` tells what state the checkout is in", file=sys.stderr)
    except KeyboardInterrupt:
        print("install_patch: interrupted; call it again to finish or undo", file=sys.stderr)
        return 130
    return commands.REFUSED


if __name__ == "__main__":
    sys.exit(main())
