"""Small slime trees and patches for the tests of the installer, and runs that die at a chosen filesystem operation.

Run as a program (`installer_trees.py SCENARIO WORKDIR`) it forks one child for every operation of a command, kills it
there, lets the next call repair the tree, and prints what became of each as JSON."""

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import install_patch

REPLACED = "slime/rollout/on_policy_distillation.py"
UPSTREAM = {
    "train.py": "import slime\n",
    "slime/__init__.py": "",
    REPLACED: "def reward_func(args, sample):\n    return 0\n",
    "slime/utils/misc.py": "def load_function(path): ...\n",
    "scripts/run.sh": "python train.py\n",
}
PATCH = {
    REPLACED: "import ta_opd\n",
    "slime/opd/new/hooks.py": "HOOK = 1\n",
    "ta_opd/scores.py": "ENTROPY = 1\n",
    "train_opd.py": "import train\n",
}
NEWER = {key: value for key, value in PATCH.items() if "hooks" not in key} | {
    "ta_opd/scores.py": "ENTROPY = 2\n",
    "ta_opd/deep/axes.py": "AXES = 2\n",
    REPLACED: "import ta_opd.deep\n",
}


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode())


class Trees:
    """Under `work`: the checkout `slime`, the patch `patch-0.1.0`, a newer one, and the list of versions."""

    def __init__(self, work):
        self.slime, self.versions = work / "slime", work / "versions.json"
        self.patches = {"0.1.0": work / "patch-0.1.0" / "slime_patch", "0.2.0": work / "patch-0.2.0" / "slime_patch"}
        write(self.slime, UPSTREAM)
        (self.slime / "scripts/run.sh").chmod(0o755)
        (self.slime / REPLACED).chmod(0o664)
        for (version, patch), files in zip(self.patches.items(), (PATCH, NEWER), strict=True):
            write(patch, files)
            (patch.parent / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
            (patch / "train_opd.py").chmod(0o755)
        relied_on = ["train.py", REPLACED, "slime/utils/misc.py", "slime/observability/gone.py"]
        self.versions.write_text(json.dumps({"relied_on": relied_on, "versions": {}}))
        self.run("fingerprint", "--name", "v9.1", "--support", "masks")

    def run(self, command, *options, patch="0.1.0"):
        """Run one command in this process; returns its exit code and everything it printed."""
        where = ["--slime-dir", str(self.slime), "--patch-dir", str(self.patches[patch])]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = install_patch.main([command, *where, "--versions", str(self.versions), *options])
        return code, printed.getvalue()


def snapshot(root):
    """Every file (content, mode) and directory of a tree, the installer's own and bytecode left out."""
    seen = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if not {".ta_opd_patch", "__pycache__"} & set(relative.parts):
            seen[relative.as_posix()] = "directory" if path.is_dir() else (path.read_bytes(), path.stat().st_mode)
    return seen


def refused(trees, *arguments, **options):
    """Run a command that must refuse and change nothing; returns what it said."""
    before = snapshot(trees.slime)
    code, text = trees.run(*arguments, **options)
    assert code == 2, text
    assert snapshot(trees.slime) == before
    assert "Traceback" not in text
    return text


def die_at(operation, root):
    """From now on count this process's changes under `root` and leave, as by kill -9, before number `operation`."""
    count = 0

    def tick(event, arguments):
        nonlocal count
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod"):
            return
        if str(arguments[0]).startswith(str(root)):
            count += 1
            if count == operation:
                os._exit(137)

    def torn_fsync(descriptor):
        nonlocal count
        count += 1
        if count == operation:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os._exit(137)

    os.fsync = torn_fsync
    sys.addaudithook(tick)


def killed(trees, operation, command):
    """Whether the command, in a child of its own, was killed at that operation (else it came to its end)."""
    child = os.fork()
    if child == 0:
        die_at(operation, trees.slime)
        os._exit(command(trees)[0])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 137


SCENARIOS = {
    "apply": ([], lambda trees: trees.run("apply")),
    "upgrade": ([("apply", "0.1.0")], lambda trees: trees.run("apply", patch="0.2.0")),
    "revert": ([("apply", "0.1.0")], lambda trees: trees.run("revert")),
}


def main(scenario, work):
    """Kill the scenario's command at every operation, and some repairs of it at some of theirs."""
    setup, command = SCENARIOS[scenario]
    os.fsync = lambda descriptor: None
    ready = Trees(work / "ready")
    for name, patch in setup:
        ready.run(name, patch=patch)
    before = snapshot(ready.slime)
    trees = Trees(work / "case")
    results, after, operation = [], None, 0
    while after is None:
        operation += 1
        for again in [0] if operation % 4 else [0, 1 + operation // 4 % 20]:  # 0: the repair is left to finish
            shutil.rmtree(trees.slime)
            shutil.copytree(ready.slime, trees.slime)
            if not killed(trees, operation, command):
                after = snapshot(trees.slime)
                break
            if again:
                killed(trees, again, lambda trees: trees.run("check"))
            code, text = trees.run("check")
            result = {"operation": operation, "again": again, "check": code, "text": text}
            result["tree"] = snapshot(trees.slime)
            result["records"] = sorted(path.name for path in trees.slime.glob(".ta_opd_patch/*"))
            if again or operation % 3 == 0:
                result["rerun"] = command(trees)[0]
                result["end"] = snapshot(trees.slime)
            results.append(result)
    for result in results:
        result["end"] = result.get("end", after) == after
        result["tree"] = "before" if result["tree"] == before else "after" if result["tree"] == after else "torn"
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
