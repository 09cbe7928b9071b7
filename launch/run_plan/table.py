"""The table of variables as Markdown, for configs/README.md."""

from __future__ import annotations

from .environment import all_variables
from .kinds import Variable


def markdown_table() -> str:
    """A table a group. A variable marked * is kept by a run that has begun: `prepare` refuses another value."""
    groups: dict[str, list[Variable]] = {}
    for variable in all_variables().values():
        groups.setdefault(variable.group, []).append(variable)
    parts = []
    for group, variables in groups.items():
        rows = [f"| {_name(v)} | {_default(v)} | {_meaning(v)} |" for v in variables]
        parts.append("\n".join([f"**{group}**", "", "| variable | default | meaning |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _name(v: Variable) -> str:
    return f"`{v.name}`{' *' if v.frozen else ''}"


def _default(v: Variable) -> str:
    return v.derived or (f"`{v.default}`" if v.default else "")


def _meaning(v: Variable) -> str:
    choices = f" ({', '.join(f'`{choice}`' for choice in v.choices)})" if v.choices and v.name != "BACKEND" else ""
    return f"{v.meaning}{choices}".replace("|", "\\|")
