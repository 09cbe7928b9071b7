"""Write the offline report: one HTML file that holds its data, styles and code and never uses the network."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from ta_opd.files import atomic_path

from .packing import check_data, pack_data, safe_json

HERE = Path(__file__).parent
SCRIPTS = (
    "base", "numbers", "text", "contexts", "scores", "colors", "state", "controls", "measures", "intervals", "results",
    "plane", "plane-drawing", "plane-side", "tokens", "card", "curves", "main",
)  # fmt: skip


def page_code() -> str:
    """The files of js/ in the order of ``SCRIPTS``, in one scope of their own; only ``main`` draws."""
    parts = [(HERE / "js" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


def content_hash(text: str) -> str:
    """Source expression that allows exactly this inline text in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def render(data: Mapping[str, Any]) -> str:
    """Return the page as text."""
    check_data(data)
    style = (HERE / "page.css").read_text(encoding="utf-8")
    code = page_code()
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("page.html.j2").render(
        title=data["title"],
        notice=data["notice"],
        settings=data["settings"],
        style=Markup(style),
        code=Markup(code),
        style_hash=content_hash(style),
        code_hash=content_hash(code),
        payload=Markup(safe_json(pack_data(data))),
    )


def build_report(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the report to ``path``; a reader sees the old file or the whole new one, never a part."""
    target = Path(path)
    html = render(data).encode("utf-8", errors="backslashreplace")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        temporary.write_bytes(html)
