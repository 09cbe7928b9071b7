"""The compatibility table as Markdown, from what the tests recorded: python -m tests.stack.slime.table RESULTS"""

from __future__ import annotations

import json
import sys
from pathlib import Path

Cells = dict[str, dict[str, dict[str, str]]]


def read(results: Path) -> Cells:
    """check -> checkout -> part -> result, in the order they were first recorded; the last record of a part counts."""
    cells: Cells = {}
    for line in results.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        cells.setdefault(row["check"], {}).setdefault(row["checkout"], {})[row["part"]] = row["result"]
    return cells


def markdown(cells: Cells) -> str:
    """A row for each check, a column for each checkout; `-` where nothing was recorded."""
    names = sorted({name for row in cells.values() for name in row}, key=age)
    lines = ["| check | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for check, row in cells.items():
        lines.append(f"| {check} | " + " | ".join(cell(row.get(name, {})) for name in names) + " |")
    return "\n".join(lines)


def age(name: str) -> tuple[bool, str]:
    """Tags in order, then checkouts named otherwise."""
    return not name.startswith("v"), name


def cell(parts: dict[str, str]) -> str:
    """Parts with the same result stand together: `full, random: 2 rollouts`."""
    together: dict[str, list[str]] = {}
    for part, result in parts.items():
        together.setdefault(result, []).append(part)
    lines = [f"{', '.join(names)}: {result}" if any(names) else result for result, names in together.items()]
    return "<br>".join(lines) or "-"


if __name__ == "__main__":
    print(markdown(read(Path(sys.argv[1]))))
