"""What a run's state.tsv says: how far it came, and how long it trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from token_bank_merge.broken import Broken

STAGES = ("teacher", "train", "merge", "score", "done")
STATUSES = ("start", "ok", "fail", "skip")


@dataclass(frozen=True)
class Step:
    stage: str
    status: str
    seconds: int


def read_state(path: Path) -> list[Step]:
    """Its whole lines in order; a torn line counts for nothing, no file means no line. Raises Broken."""
    if not path.exists():
        return []
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise Broken(path, f"not readable: {error.strerror}") from error
    steps = []
    for line in text.split("\n")[:-1]:
        stage, status, seconds, *_ = [*line.split("\t"), "", ""]
        if stage in STAGES and status in STATUSES and seconds.isdecimal():
            steps.append(Step(stage, status, int(seconds)))
    return steps


def status_of(steps: Sequence[Step]) -> str:
    """finished, failed at STAGE, stopped at STAGE (begun, not ended), stopped after STAGE, or not started."""
    if not steps:
        return "not started"
    ends = {step.stage: step.status for step in steps}
    last = steps[-1]
    if ends.get("done") == "ok":
        return "finished"
    if last.status == "fail":
        return f"failed at {last.stage}"
    return f"stopped {'at' if last.status == 'start' else 'after'} {last.stage}"


def train_seconds(steps: Sequence[Step]) -> tuple[int | None, str]:
    """Wall seconds from the start to the end of training, over all attempts, and a note on what they leave out."""
    started, total, killed = None, None, 0
    for step in steps:
        if step.stage != "train":
            continue
        if step.status == "start":
            killed += started is not None
            started = step.seconds
        elif started is not None:
            total, started = (total or 0) + step.seconds - started, None
    if total is None or not killed:
        return total, ""
    return total, f"training seconds leave out {killed} attempt{'s' if killed > 1 else ''} that did not end by itself"
