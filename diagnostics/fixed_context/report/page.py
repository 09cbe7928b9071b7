"""Write the offline page: one HTML file with its tables, figures, data, styles and code; it never uses the network."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from ta_opd.files import atomic_path

from ..statistics.tables import Row, shown
from .figures import PALETTE_NOTE, Drawing, Recipe
from .findings import Finding
from .packing import safe_json
from .tables import MAKERS

HERE = Path(__file__).parent
SCRIPTS = ("base", "numbers", "data", "colors", "state", "tokens", "card", "controls", "main")
_MOST_ROWS = 400


@dataclass(frozen=True)
class Page:
    """What the page shows. tables: title and rows by file stem. facts: name -> value, of models and settings. notes:
    what a reader must know before the numbers. absent: figures whose tables were not given. view: the packed token
    view."""

    title: str
    lead: str
    notes: list[str]
    findings: list[Finding]
    drawings: list[Drawing]
    absent: list[Recipe]
    tables: dict[str, list[Row]]
    facts: dict[str, Any]
    view: dict[str, Any]


def write_page(page: Page, path: Path) -> Path:
    """The file is there whole or as it was."""
    html = render(page).encode("utf-8", errors="backslashreplace")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(html)
    return path


def render(page: Page) -> str:
    style, code = (HERE / "page.css").read_text(encoding="utf-8"), page_code()
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    environment.filters["shown"] = shown
    return environment.get_template("page.html.j2").render(
        page=page,
        figures=[_figure(drawing) for drawing in page.drawings],
        tables=[_table(stem, rows) for stem, rows in page.tables.items()],
        palette=PALETTE_NOTE,
        style=Markup(style),
        code=Markup(code),
        style_hash=content_hash(style),
        code_hash=content_hash(code),
        payload=Markup(safe_json(page.view)),
    )


def page_code() -> str:
    """The files of js/ in the order of SCRIPTS, in one scope of their own."""
    parts = [(HERE / "js" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


def content_hash(text: str) -> str:
    """What a content security policy calls exactly this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _figure(drawing: Drawing) -> dict[str, Any]:
    plot = drawing.plot
    images = [
        {
            "data": base64.b64encode(image).decode(),
            "alt": f"{panel.title}: {panel.alt}".replace("\n", ", "),
            "width": round(100 * panel.width),
            "height": round(100 * panel.height),
        }
        for panel, image in zip(plot.panels, drawing.images, strict=True)
    ]
    return {"stem": plot.stem, "title": plot.title, "caption": plot.caption, "images": images}


def _table(stem: str, rows: list[Row]) -> dict[str, Any]:
    """Columns that are empty in every row are left out; the CSV has them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    names = [name for name in names if any(row.get(name) not in (None, "") for row in rows)]
    return {
        "stem": stem,
        "maker": MAKERS[stem],
        "columns": names,
        "rows": rows[:_MOST_ROWS],
        "left_out": max(0, len(rows) - _MOST_ROWS),
        "count": len(rows),
    }
