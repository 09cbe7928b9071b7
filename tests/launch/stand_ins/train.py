"""In the place of train_opd.py: asks the teacher, writes a rollout's token bank, saves checkpoints, goes on from them.

Orders: train_crashes (counts) at rollout train_crashes_at; step_seconds; bank (a token bank to copy rollouts from)."""

import json
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from journal import begin, note, take, told


def ask_teacher(url):
    """As our client: repeats until it is answered."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(200):
        try:
            with opener.open(urllib.request.Request(url, b"{}"), timeout=10):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    sys.exit(f"no teacher at {url}")


def write_rollout(source, bank, rollout):
    """A rollout's file, and the summary and manifest as far as the run has come."""
    name = f"rollout_{rollout:06d}.parquet"
    manifest = json.loads((source / "config.json").read_text())
    done = {file.name for file in bank.glob("rollout_*.parquet")} | {name}
    manifest["rollouts"] = {file: rows for file, rows in manifest["rollouts"].items() if file in done}
    lines = (source / "summary.csv").read_text().splitlines(keepends=True)
    (bank / "config.json").write_text(json.dumps(manifest))
    (bank / "summary.csv").write_text("".join(lines[: len(done) + 1]))
    shutil.copyfile(source / name, bank / f".{name}.tmp")
    (bank / f".{name}.tmp").replace(bank / name)


def main():
    given = begin("train")
    checkpoints, bank = Path(given["--save"]), Path(given["--opd-token-bank-dir"])
    run, latest = checkpoints.parent.name, checkpoints / "latest_checkpointed_iteration.txt"
    first = int(latest.read_text()) + 1 if latest.exists() else 0
    crash_at = int(told("train_crashes_at") or 0) if take("train_crashes") else -1
    bank.mkdir(parents=True, exist_ok=True)
    last = int(given["--num-rollout"]) - 1
    for rollout in range(first, last + 1):
        note("rollout", run=run, rollout=rollout)
        if rollout == crash_at:
            sys.exit("loss is not finite, says the stand-in")
        for url in given["--opd-teacher-url"].split(","):
            ask_teacher(url)
        time.sleep(float(told("step_seconds") or 0))
        write_rollout(Path(told("bank")), bank, rollout)
        if (rollout + 1) % int(given["--save-interval"]) == 0 or rollout == last:
            checkpoints.mkdir(exist_ok=True)
            (checkpoints / ".latest").write_text(str(rollout))
            note("saving", run=run, rollout=rollout)
            (checkpoints / ".latest").replace(latest)
            note("saved", run=run, rollout=rollout)
    print(json.dumps({"trained": list(range(first, last + 1))}))


main()
