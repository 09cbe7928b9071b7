"""Pages say what the code does."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from local_engine.cli import build_parser
from ta_opd import LOSSES, SELECTORS
from ta_opd.option_fields import flag
from ta_opd.slime_options import SlimeOptions

ROOT = Path(__file__).parents[1]
SLIMES_OWN = {"--opd-type", "--opd-kl-coef", "--opd-teacher-load", "--opd-teacher-ckpt-step"}
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "configs" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_methods_page_lists_every_selector_alias_and_loss():
    page = read("docs/methods.md")
    for selector in SELECTORS:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{selector.name}` |"))
        for name in (selector.mask, *selector.aliases):
            assert f"`{name}`" in row
    for loss in LOSSES:
        assert f"| `{loss}` |" in page


def test_the_example_in_the_readme_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", read("README.md"), flags=re.S)
    assert blocks
    script = tmp_path / "example.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_tree_in_the_readme_names_what_is_there():
    tree = re.search(r"```text\n(.*?)```", read("README.md"), flags=re.S).group(1)
    folder = []
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folder = [*folder[:depth], name]
        assert (ROOT / "/".join(part.rstrip("/") for part in folder)).exists(), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_named_in_a_page_exist(page):
    known = {flag(f.name) for f in fields(SlimeOptions)} | SLIMES_OWN
    known |= {name for name in build_parser()._option_string_actions if name.startswith("--opd-")}
    for name in re.findall(r"(?<![\w-])--opd-[a-z0-9-]+", page.read_text(encoding="utf-8")):
        assert name in known, name
