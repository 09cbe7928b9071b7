"""Which slime a checkout is, told from the hashes of the upstream files that the patch relies on."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .patch_tree import Refused, text_digest

SUPPORT = {"full": "everything", "masks": "token selection in the loss mask only, as it has no advantage hook"}
UNKNOWN = "?"  # the upstream content of a file is out of reach: the patch's own file stands in its place


@dataclass(frozen=True)
class Known:
    """`tools/slime_versions.json`: the relied-on paths, and for each version its support and file hashes."""

    relied_on: tuple[str, ...]
    versions: dict[str, dict]

    def is_upstream(self, name: str, fingerprint: str) -> bool:
        """Whether some known slime has exactly this file."""
        return any(version["files"].get(name) == fingerprint for version in self.versions.values())


@dataclass(frozen=True)
class Match:
    """The known version closest to a checkout; `differences` are one line each, none when it is that version."""

    name: str
    support: str
    files: dict[str, str]
    differences: tuple[str, ...]
    agreeing: int

    @property
    def exact(self) -> bool:
        return not self.differences

    def title(self) -> str:
        if self.exact:
            return f"slime {self.name}: supports {SUPPORT[self.support]}"
        return f"not a known slime; closest is {self.name}, {self.agreeing} of {len(self.files)} relied-on files agree"


def load(path: Path) -> Known:
    """Read the versions file."""
    if not path.exists():
        raise Refused(f"no list of slime versions at {path}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise Refused(f"{path} is not valid JSON: {error}") from error
    return Known(tuple(data["relied_on"]), data["versions"])


def fingerprint(path: Path) -> str | None:
    """Line-ending-blind hash of a file, None when it is not there."""
    return text_digest(path.read_bytes()) if path.is_file() else None


def identify(seen: dict[str, str | None], known: Known) -> Match:
    """Closest known version. seen: relied-on path -> its fingerprint, None (missing) or UNKNOWN (agrees with any)."""
    if not known.versions:
        raise Refused("the list of slime versions is empty: add one with `install_patch.py fingerprint`")
    return max((_compare(name, data, seen) for name, data in known.versions.items()), key=_closeness)


def _closeness(match: Match) -> tuple[bool, float]:
    return match.exact, match.agreeing / len(match.files)


def _compare(version: str, data: dict, seen: dict[str, str | None]) -> Match:
    differences = []
    for name, expected in data["files"].items():
        found = seen.get(name)
        if found is None:
            differences.append(f"{name} is missing; {version} has it (sha256 {expected[:12]}...)")
        elif found not in (expected, UNKNOWN):
            differences.append(f"{name} differs: {version} has sha256 {expected[:12]}..., here it is {found[:12]}...")
    agreeing = len(data["files"]) - len(differences)
    return Match(version, data["support"], data["files"], tuple(differences), agreeing)


def committed(root: Path, name: str, expected: str | None) -> bytes | None:
    """The file as git has it at HEAD, if it is upstream's (`expected` fingerprint); None where git cannot tell."""
    command = ["git", "-C", str(root), "cat-file", "--filters", f"HEAD:./{name}"]
    try:
        shown = subprocess.run(command, capture_output=True, timeout=60, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"})
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return shown.stdout if shown.returncode == 0 and text_digest(shown.stdout) == expected else None


def record(path: Path, root: Path, name: str, support: str, patch: dict[str, Path]) -> int:
    """Add the checkout `root` to the versions file as `name`; returns how many files were hashed."""
    known = load(path)
    ours = [file for file in known.relied_on if file in patch and fingerprint(root / file) == fingerprint(patch[file])]
    if ours:
        raise Refused(f"{ours[0]} is the patch's own file: take the hashes from an untouched checkout of slime")
    hashes = {file: fingerprint(root / file) for file in known.relied_on}
    versions = known.versions | {name: {"support": support, "files": {file: h for file, h in hashes.items() if h}}}
    data = {"relied_on": known.relied_on, "versions": versions}
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return len(versions[name]["files"])
