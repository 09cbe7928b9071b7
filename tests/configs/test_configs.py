"""configs/: every file is right, whole, and does what its page says."""

import os
import re
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import yaml
from run_plan.check import faults
from run_plan.cli import main
from run_plan.environment import read_settings
from run_plan.estimate import estimate_text
from run_plan.method_files import read_method
from run_plan.opd_variables import SUITE_DEFAULTS
from run_plan.plan import plan_suite
from run_plan.table import markdown_table
from ta_opd import LOSSES, SELECTORS
from ta_opd.slime_options import SlimeOptions

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
METHODS = sorted((CONFIGS / "methods").glob("*.yaml"))
PAIRS = sorted((CONFIGS / "pairs").glob("*.sh"))
ASKED_FOR = {
    "qwen3_4b_to_1.7b",
    "qwen3_8b_to_1.7b",
    "qwen3_8b_to_4b",
    "qwen3_14b_to_1.7b",
    "qwen3_14b_to_4b",
    "r1_distill_qwen_14b_to_qwen2.5_3b",
}


def plan(tmp_path, **more):
    environment = {"MODELS_DIR": "/m", "SLIME_DIR": "/s", "PROMPT_DATA": "/p.jsonl", "OUTPUT_ROOT": str(tmp_path)}
    return plan_suite(environment | more, dry_run=True)


def test_there_is_a_file_for_each_selector_and_no_other():
    assert {path.stem: yaml.safe_load(path.read_text())["opd_budget_mask"] for path in METHODS} == {
        selector.name: selector.mask for selector in SELECTORS
    }


@pytest.mark.parametrize("path", [*METHODS, *PAIRS], ids=lambda path: path.stem)
def test_every_file_is_right(path):
    assert faults(path) == []


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_a_method_is_read_alike_by_the_launchers_and_by_custom_config_path(path, monkeypatch):
    # slime sets each key of --custom-config-path as an attribute of its arguments; the drop-ins read them there.
    monkeypatch.syspath_prepend(str(ROOT / "slime_patch" / "slime" / "utils"))
    from opd_settings import slime_options

    args = Namespace(hf_checkpoint="x", opd_type="sglang", opd_kl_coef=1.0)
    for key, value in yaml.safe_load(path.read_text()).items():
        setattr(args, key, value)
    assert slime_options(args) == SlimeOptions(**SUITE_DEFAULTS | read_method(path))
    sys.modules.pop("opd_settings")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("opd_budget_rato: 0.1\n", "unknown option 'opd_budget_rato'; did you mean opd_budget_ratio?"),
        ("budget_ratio: 0.1\n", "key 'budget_ratio' does not begin with opd_"),
        ("opd-budget-ratio: 0.1\n", "key 'opd-budget-ratio' does not begin with opd_"),
        ("opd_budget_ratio: 1.1\n", "--opd-budget-ratio 1.1 is outside 0..1 (0 excluded)"),
        ("opd_budget_ratio: '0.1'\n", "--opd-budget-ratio takes a number; got '0.1'"),
        ("opd_jsd_beta: 0.1\n", "does nothing with --opd-loss sampled_token"),
        ("opd_token_bank_dir: x\n", "opd_token_bank_dir is not a method's: each run has its own"),
        ("opd_topk_metrics_k: 16\nopd_topk_metrics_k: 8\n", "opd_topk_metrics_k is given twice"),
        ("- opd_budget_ratio\n", "is not a table of opd_... keys"),
        ("", "is not a table of opd_... keys"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_wrong_method_file_is_refused_by_name(tmp_path, text, message, capsys):
    path = tmp_path / "method.yaml"
    path.write_text(text)
    assert main(["check", str(path), str(METHODS[0])]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"run_plan: error: {path}") and message in error and error.count("\n") == 1


def test_every_method_and_pair_can_be_planned_together(tmp_path):
    for pair in ASKED_FOR:
        methods = " ".join(selector.name for selector in SELECTORS) if pair == "qwen3_4b_to_1.7b" else "tip random"
        suite = plan(tmp_path, PAIR=pair, METHOD_LIST=methods)
        assert suite.variables["SUITE_DIR"] == str(tmp_path / pair)
        for run in suite.runs:
            assert run.options.token_bank_pair_id == pair
        assert "not known" in estimate_text(suite.runs[0].variables)  # there is no checkout at /s


def test_every_loss_works_from_the_environment_alone(tmp_path):
    for loss in LOSSES:
        (run,) = plan(tmp_path, PAIR="qwen3_4b_to_1.7b", METHOD_LIST="tip", OPD_LOSS=loss).runs
        assert run.options.loss == loss


def test_the_pairs_are_the_ones_asked_for_and_name_no_machine():
    assert {path.stem for path in PAIRS} == ASKED_FOR
    for path in PAIRS:
        values = read_settings({"PAIR": str(path)})
        for name in ("TEACHER_MODEL", "STUDENT_HF"):
            assert re.fullmatch(r"[\w-]+/[\w.-]+", values[name])
        for name in values.from_pair:
            assert not values[name].startswith("/"), name


@pytest.mark.skipif("SLIME_DIR" not in os.environ, reason="SLIME_DIR names no slime checkout")
@pytest.mark.parametrize("pair", sorted(ASKED_FOR))
def test_a_pair_fits_a_card_of_80_gb_by_the_estimate(tmp_path, pair):
    (run,) = plan(tmp_path, PAIR=pair, METHOD_LIST="tip", SLIME_DIR=os.environ["SLIME_DIR"]).runs
    text = estimate_text(run.variables)
    assert float(re.search(r"together: ([0-9.]+) GiB", text)[1]) < 60


def test_the_page_lists_every_pair_and_has_the_table_of_variables():
    page = (CONFIGS / "README.md").read_text(encoding="utf-8")
    for name in ASKED_FOR:
        assert f"| `{name}` |" in page
    table = page[page.index("<!-- python -m run_plan variables -->\n") :].partition("\n")[2]
    assert table == markdown_table() + "<!-- end -->\n"
