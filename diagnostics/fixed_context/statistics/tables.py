"""One table as CSV (every digit), Markdown and LaTeX (rounded, for people); what is not known is an empty cell."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ta_opd.files import atomic_path, write_json, write_text

Row = dict[str, Any]

_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)


def write_tables(
    directory: Path, stem: str, rows: Sequence[Row], title: str, columns: Sequence[str] | None = None
) -> list[Path]:
    """Write stem.csv, stem.md and stem.tex into the directory, each atomically; returns their paths.

    rows: dicts; columns: those of the Markdown and LaTeX tables, all for None. CSV always has all columns, in the order
    in which they first appear. No row is a table that says "no rows".
    """
    names = list(dict.fromkeys(key for row in rows for key in row))
    shown = names if columns is None else [name for name in columns if name in names]
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{stem}.{suffix}" for suffix in ("csv", "md", "tex")]
    with atomic_path(paths[0]) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, names)
        writer.writeheader()
        writer.writerows({name: _exact(row.get(name)) for name in names} for row in rows)
    write_text(paths[1], markdown(rows, shown, title))
    write_text(paths[2], latex(rows, shown, title))
    return paths


def write_summary(path: Path, summary: dict[str, Any]) -> Path:
    """JSON; a number that is not finite is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, plain(summary))
    return path


def plain(value: Any) -> Any:
    """Plain Python for JSON: arrays and tuples as lists, numpy scalars as numbers, NaN and infinities as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def markdown(rows: Sequence[Row], columns: Sequence[str], title: str) -> str:
    if not rows:
        return f"{title}\n\nno rows\n"
    numeric = _numeric(rows, columns)
    lines = [columns, ["---:" if name in numeric else "---" for name in columns]]
    lines += [[shown(row.get(name)).replace("|", "\\|") for name in columns] for row in rows]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{title}\n\n{body}\n"


def latex(rows: Sequence[Row], columns: Sequence[str], title: str) -> str:
    """A booktabs tabular with the title as a comment."""
    if not rows:
        return f"% {title}\n% no rows\n"
    numeric = _numeric(rows, columns)
    align = "".join("r" if name in numeric else "l" for name in columns)
    lines = [f"% {title}", f"\\begin{{tabular}}{{{align}}}", "\\toprule", _tex_line(columns), "\\midrule"]
    lines += [_tex_line([shown(row.get(name)) for name in columns]) for row in rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def shown(value: Any) -> str:
    """For people: integers with thousands, numbers to four significant places, nothing for what is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.2e}" if value and abs(value) < 5e-4 else f"{value:.4g}" if abs(value) >= 10 else f"{value:.4f}"
    return str(value)


def _exact(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def _tex_line(cells: Sequence[str]) -> str:
    return " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"


def _numeric(rows: Sequence[Row], columns: Sequence[str]) -> set[str]:
    values = {name: [row.get(name) for row in rows if row.get(name) is not None] for name in columns}
    return {name for name, found in values.items() if found and all(isinstance(v, (int, float)) for v in found)}
