"""The slime checkouts under test, and patched copies of them: nothing is ever written into a user's checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
INSTALLER = ROOT / "tools" / "install_patch.py"
NOT_COPIED = shutil.ignore_patterns(".git", "__pycache__", "*.egg-info", "imgs", "docs", "docker")


@dataclass(frozen=True)
class Checkout:
    """A folder with slime's train.py, and the name to report it by: the folder's."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def has(self, text: str, file: str) -> bool:
        """Whether a file of the checkout contains the text: how a feature is probed, never by version."""
        path = self.path / file
        return path.is_file() and text in path.read_text(encoding="utf-8")

    @property
    def custom_advantage(self) -> bool:
        """The hook that full support needs (v0.3.0 and later)."""
        return self.has("--custom-advantage-function-path", "slime/utils/arguments.py")

    def copy(self, folder: Path) -> Checkout:
        """A copy in folder, under the same name, as slime ships it: a patch found in it is taken out of the copy."""
        copy = Checkout(Path(shutil.copytree(self.path, folder / self.name, symlinks=True, ignore=NOT_COPIED)))
        if (copy.path / ".ta_opd_patch").is_dir():
            copy.install("revert")
        return copy

    def install(self, command: str) -> str:
        """Runs the installer on this checkout: `apply` or `revert`; returns what it printed."""
        done = subprocess.run(
            [sys.executable, str(INSTALLER), command, "--slime-dir", str(self.path)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def files(self) -> dict[str, bytes]:
        """Every file of the checkout and its bytes, caches left out."""
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and not {"__pycache__", ".pytest_cache"} & set(path.parts)
        }


def checkouts() -> list[Checkout]:
    """From SLIME_DIRS (several, separated by colons) or SLIME_DIR (one); empty when neither is set."""
    names = os.environ.get("SLIME_DIRS") or os.environ.get("SLIME_DIR") or ""
    found = [Checkout(Path(name).resolve()) for name in names.split(os.pathsep) if name]
    for checkout in found:
        if not (checkout.path / "train.py").is_file() or not (checkout.path / "slime").is_dir():
            raise ValueError(f"SLIME_DIR {checkout.path} is no slime checkout: no train.py or no slime/ in it")
    return found
