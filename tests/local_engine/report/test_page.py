"""The file that is written: one offline document that holds hostile text as text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from local_engine.report import build_report
from local_engine.report.page import HERE, SCRIPTS, render


def test_page_fetches_nothing(data: dict) -> None:
    page = render(data)
    markup = re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.DOTALL)
    outside = markup.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|\bsrc\s*=|@import|url\(|\bfetch\(|innerHTML|<link", outside)
    assert "default-src 'none'" in page
    assert '<html lang="en">' in page
    assert f"<title>{data['title']}</title>" in page


def test_every_control_has_a_label(data: dict) -> None:
    page = render(data)
    labelled = set(re.findall(r'<label for="([^"]+)"', page))
    for label in re.findall(r"<label>.*?</label>", page):
        labelled.update(re.findall(r'<select id="([^"]+)"', label))
    assert set(re.findall(r'<select id="([^"]+)"', page)) == labelled


def test_hostile_text_stays_text_in_the_file(hostile: dict) -> None:
    page = render(hostile)
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert "\u2028" not in page
    assert "<b>name" not in page


def test_write_replaces_the_file_and_leaves_nothing_behind(tmp_path: Path, data: dict) -> None:
    path = tmp_path / "out" / "report.html"
    build_report(data, path)
    path.write_text("old")
    build_report(data, path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(path.parent.iterdir()) == [path]


def test_failed_write_keeps_the_old_file(tmp_path: Path, data: dict) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ValueError, match="history"):
        build_report({name: value for name, value in data.items() if name != "history"}, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_every_script_is_in_the_page_once() -> None:
    assert sorted(SCRIPTS) == sorted(path.stem for path in (HERE / "js").glob("*.js"))
