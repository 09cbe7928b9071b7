"""The records as summary.csv, summary.md, JSON and a table in the terminal. An unknown number is an empty cell."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .record import COLUMNS, Record

CAPTION = (
    "rollouts: in the token bank, of those planned; reverse KL: log p_S - log p_T of the sampled tokens, nats a valid "
    "token, first and last tenth of the rollouts; H, D (nats), C: entropy, disagreement and compatibility, means of "
    "the kept tokens; gain: fall of KL(teacher||student) on frozen contexts, nats a token, 95% interval over prompts; "
    "train: wall seconds."
)


def csv_text(records: Sequence[Record]) -> str:
    """Every column, numbers in full; notes are joined by "; "."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for record in records:
        cells = {name: "" if value is None else value for name, value in record.items()}
        table.writerow((cells | {"notes": "; ".join(record["notes"])})[name] for name in COLUMNS)
    return text.getvalue()


def json_text(records: Sequence[Record]) -> str:
    return json.dumps(list(records), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def markdown(records: Sequence[Record]) -> str:
    names, rows = _cells(records)
    lines = [names, ["---", "---", *["---:"] * (len(names) - 2)], *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
    notes = "".join(f"- {line}\n" for line in _notes(records))
    return f"{table}\n\n{CAPTION}\n" + (f"\n{notes}" if notes else "")


def print_table(console: Console, records: Sequence[Record]) -> None:
    names, rows = _cells(records)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=CAPTION, caption_justify="left")
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell.replace(" [", "\n[").replace(" / ", "\nof ")) for cell in row))
    console.print(table)
    for line in _notes(records):
        console.print(Text(f"note: {line}"))


def _cells(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    names = ["run", "status", "rollouts", "kept / valid", "reverse KL", "H", "D", "C", "gain", "train, s"]
    suites = len({record["suite"] for record in records}) > 1
    return names, [
        [
            f"{record['suite']}/{record['run']}" if suites else record["run"],
            record["status"] or "",
            _pair(record["rollouts"], record["num_rollout"], " / "),
            _pair(record["kept_tokens"], record["valid_tokens"], " / "),
            _arrow(record["reverse_kl_first"], record["reverse_kl_last"]),
            *(_number(record[name], "") for name in ("kept_Hs", "kept_KLf_union", "kept_Cmass")),
            _interval(record),
            "" if record["train_seconds"] is None else f"{record['train_seconds']:,}",
        ]
        for record in records
    ]


def _number(value: float | None, sign: str = "+") -> str:
    return "" if value is None else format(value, f"{sign}.3f")


def _pair(first: int | None, second: int | None, between: str) -> str:
    if first is None:
        return ""
    return f"{first:,}" if second is None else f"{first:,}{between}{second:,}"


def _arrow(first: float | None, last: float | None) -> str:
    return "" if first is None and last is None else f"{_number(first) or '?'} to {_number(last) or '?'}"


def _interval(record: Record) -> str:
    if record["gain"] is None or record["gain_low"] is None:
        return _number(record["gain"])
    return f"{_number(record['gain'])} [{_number(record['gain_low'])}, {_number(record['gain_high'])}]"


def _notes(records: Sequence[Record]) -> list[str]:
    return [f"{record['run']}: {note}" for record in records for note in record["notes"]]
