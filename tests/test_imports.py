"""Who may import whom: the library alone, the engine on top of it, nobody on tools or tests."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "slime_patch" / "ta_opd"
ENGINE = ROOT / "launch" / "local_engine"
PLAN = ROOT / "launch" / "run_plan"
DIAGNOSTICS = ROOT / "diagnostics" / "fixed_context"
DROP_INS = [*sorted((ROOT / "slime_patch" / "slime").rglob("*.py")), ROOT / "slime_patch" / "train_opd.py"]
OURS = {
    "ta_opd",
    "local_engine",
    "run_plan",
    "fixed_context",
    "diagnostics",
    "tools",
    "tests",
    "launch",
    "benchmarks",
    "slime_patch",
}
HEAVY = (
    "slime",
    "ray",
    "megatron",
    "sglang",
    "transformers",
    "pyarrow",
    "polars",
    "tokenizers",
    "aiohttp",
    "msgspec",
    "tenacity",
)

IMPORT_ALL = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {heavy!r}:
            raise ImportError(f"{{name}} must not be imported by the library")

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {parent!r})
for module in {modules!r}:
    importlib.import_module(module)
assert sys.modules["ta_opd"].__file__.startswith({parent!r})
assert not set({heavy!r}) & set(sys.modules)
"""


def python_files(*folders):
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def imported(path):
    """Top-level names of everything a file imports, relative imports left out."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def climbs_out(path, package):
    """Relative imports that leave the package."""
    depth = len(path.relative_to(package).parts)
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level > depth]


def test_the_library_imports_without_slime_and_without_anything_but_torch_and_numpy():
    modules = [
        ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in python_files(LIBRARY)
    ]
    assert "ta_opd.support" in modules
    program = IMPORT_ALL.format(heavy=HEAVY, modules=modules, parent=str(LIBRARY.parent))
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_public_name_of_the_library_is_there_and_an_unknown_one_is_not():
    import ta_opd

    assert all(getattr(ta_opd, name) is not None for name in ta_opd.__all__)
    assert set(ta_opd.__all__) == set(ta_opd._HOME_OF)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = ta_opd.nothing


@pytest.mark.parametrize("command", ["gain", "q3", "support"])
def test_an_analysis_of_finished_scores_does_not_wait_for_torch(command):
    program = f"import sys, fixed_context.commands.{command}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", python_files(LIBRARY), ids=lambda path: path.name)
def test_the_library_imports_none_of_the_others(path):
    assert not imported(path) & (OURS - {"ta_opd"} | {"slime", "megatron", "ray"})
    assert not climbs_out(path, LIBRARY)


@pytest.mark.parametrize("path", DROP_INS, ids=lambda path: path.name)
def test_the_drop_ins_import_the_library_and_slime_only(path):
    assert not imported(path) & (OURS - {"ta_opd"})
    assert not climbs_out(path, path.parent)


@pytest.mark.parametrize("path", python_files(ENGINE), ids=lambda path: path.name)
def test_the_engine_imports_the_library_and_third_parties_only(path):
    assert not imported(path) & (OURS - {"ta_opd", "local_engine"} | {"slime", "megatron", "ray", "sglang"})
    assert not climbs_out(path, ENGINE)


@pytest.mark.parametrize("path", python_files(PLAN), ids=lambda path: path.name)
def test_the_plan_of_the_launchers_imports_the_library_alone(path):
    assert not imported(path) & (OURS - {"ta_opd", "run_plan"} | set(HEAVY))
    assert not climbs_out(path, PLAN)


@pytest.mark.parametrize("path", python_files(DIAGNOSTICS), ids=lambda path: str(path.relative_to(DIAGNOSTICS)))
def test_the_diagnostics_import_the_library_and_third_parties_only(path):
    assert not imported(path) & (OURS - {"ta_opd", "fixed_context"} | {"slime", "megatron", "ray", "sglang"})
    assert not climbs_out(path, DIAGNOSTICS)


def test_nobody_imports_tools_or_tests():
    folders = [ROOT / name for name in ("slime_patch", "launch", "diagnostics", "benchmarks")]
    offenders = {str(path) for path in python_files(*folders) if imported(path) & {"tools", "tests"}}
    tools = {path.stem for path in python_files(ROOT / "tools")}
    offenders |= {str(path) for path in python_files(ROOT / "tools") if imported(path) & ({"tests"} | tools)}
    assert not offenders


def test_the_checks_see_an_import_wherever_it_stands(tmp_path):
    path = tmp_path / "package" / "module.py"
    path.parent.mkdir()
    path.write_text(
        "def f():\n    import tools.x\n    from tests import y\n    from ..other import z\n    from . import w\n"
    )
    assert imported(path) == {"tools", "tests"}
    assert climbs_out(path, path.parent) == ["other"]
