"""The drivers: the local chain end to end, the clusters' as a dry run, one line for what is wrong.

After a change that is meant: RENEW_GOLDENS=1 python -m pytest tests/diagnostics/test_drivers.py; read the difference.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..launch.warm_python import SHIM

REPO = Path(__file__).resolve().parents[2]
LOCAL = REPO / "diagnostics/run_local_fixed_context.sh"
PAIRS = sorted(path.stem for path in (REPO / "configs/pairs").glob("*.sh"))
GOLDEN = Path(__file__).with_name("golden")
KEEP = ("PATH", "HOME", "TMPDIR", "LANG")
TINY = "--problems 60 --held-out-problems 6 --frozen-contexts 6 --teacher-steps 4 --student-steps 3 --max-new-tokens 16"


def run(script, *words, **settings):
    environment = {name: os.environ[name] for name in KEEP if name in os.environ}
    environment |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"} | settings
    done = subprocess.run([str(script), *words], env=environment, capture_output=True, text=True, timeout=900)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def warm_python(tmp_path_factory):
    """The path of a Python that starts our short commands at once."""
    folder = tmp_path_factory.mktemp("python")
    address = str(folder / "socket")
    words = [sys.executable, str(REPO / "tests/launch/warm_python.py"), "serve", address]
    server = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        assert server.stdout.readline() == b"ready\n"
        shim = folder / "python"
        shim.write_text(SHIM.format(python=sys.executable, address=address, tools=f"{REPO}/tools/"))
        shim.chmod(0o755)
        yield shim
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(scope="module")
def dry_run(warm_python, tmp_path_factory):
    """What a pair's driver prints, by pair and settings; paths of this machine by their names."""
    slime = tmp_path_factory.mktemp("slime")
    (slime / "scripts/models").mkdir(parents=True)
    shape = "--num-layers 28 --hidden-size 2048 --ffn-hidden-size 6144 --num-attention-heads 16 --vocab-size 151936"
    size = f"MODEL_ARGS=({shape})"
    for name in ("qwen3-1.7B", "qwen3-4B", "qwen2.5-3B"):
        (slime / f"scripts/models/{name}.sh").write_text(size + "\n")
    steady = {
        "PYTHON": str(warm_python), "DRY_RUN": "1", "OUTPUT_ROOT": "/suites", "SLIME_DIR": str(slime),
        "PROMPT_DATA": "/data/prompts.jsonl", "RAY_TEMP_DIR": "/tmp/ray-ta-opd", "MODELS_DIR": "/models",
    }  # fmt: skip

    def dry(pair, refused=False, **settings):
        code, printed, error = run(REPO / f"diagnostics/run_{pair}_fixed_context_300.sh", **(steady | settings))
        assert code == 2 * refused, error
        if refused:
            return error
        assert not Path("/suites").exists()
        for path, label in ((str(warm_python), "PYTHON"), (str(slime), "SLIME_DIR"), (str(REPO), "REPO")):
            printed = printed.replace(path, label)
        return printed

    return dry


@pytest.fixture(scope="module")
def printed_8b(dry_run):
    return dry_run("qwen3_8b_to_4b")


def test_each_pair_has_its_driver():
    found = {path.name for path in (REPO / "diagnostics").glob("run_*_fixed_context_300.sh")}
    assert found == {f"run_{pair}_fixed_context_300.sh" for pair in PAIRS}
    for name in found:
        assert os.access(REPO / "diagnostics" / name, os.X_OK)


def test_the_commands_after_training_are_the_golden_ones(printed_8b):
    after = printed_8b[printed_8b.index("\n# 1/12 ") :]
    path = GOLDEN / "qwen3_8b_to_4b.txt"
    if os.environ.get("RENEW_GOLDENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(after)
    assert after == path.read_text(), f"{path} differs; this file's first lines say how to renew it"


def test_training_follows_the_released_recipe(printed_8b):
    for flag, value in {
        "--num-rollout": "151", "--rollout-batch-size": "2", "--n-samples-per-prompt": "1",
        "--rollout-max-response-len": "256", "--opd-exact-cmass-max-union": "128", "--seed": "41717",
        "--max-response-tokens": "192", "--max-samples": "300", "--opd-topk-metrics-k": "16",
    }.items():  # fmt: skip
        assert re.search(rf"{flag} {value}\b", printed_8b), flag
    assert "--opd-exact-cmass \\" in printed_8b
    assert "--save-debug-rollout-data" in printed_8b


def test_several_runs_are_scored_on_the_contexts_of_the_first(dry_run):
    pair, methods = "r1_distill_qwen_14b_to_qwen2.5_3b", "teachability:0.10:1 random:0.10:2"
    printed = dry_run(pair, METHOD_LIST=methods, CONTEXTS="40")
    assert "--debug-rollout-data '/suites/" in printed
    assert printed.count("runs/teachability-0.10-seed41717/debug_rollouts/[0-9]") == 1
    assert "# 18/18 report of random-0.10-seed41717" in printed
    assert "--max-samples 40" in printed
    assert printed.count("--allow-tokenizer-mismatch") == 4  # the special tokens of this pair differ


@pytest.mark.parametrize(
    ("script", "settings", "told"),
    [
        (LOCAL, {}, "OUT is not set"),
        (LOCAL, {"OUT": "{tmp}/file"}, "is not a directory"),
        (LOCAL, {"OUT": "{tmp}/o", "PROMPTS": "{tmp}/none.jsonl"}, "none.jsonl: no such file"),
        (LOCAL, {"OUT": "{tmp}/o", "METHODS": "teachabilty:0.1"}, "teachability"),
        (LOCAL, {"OUT": "{tmp}/o", "TOPK": "many"}, "TOPK many must be"),
        (LOCAL, {"OUT": "{tmp}/o", "BOOTSTRAP": "0"}, "BOOTSTRAP 0 must be"),
        (LOCAL, {"OUT": "{tmp}/o", "PYTHON": "no-such-python"}, "no-such-python is not a command"),
        (REPO / "diagnostics/run_qwen3_8b_to_4b_fixed_context_300.sh", {"CONTEXTS": "-1"}, "CONTEXTS -1 must be"),
        (REPO / "diagnostics/run_qwen3_8b_to_4b_fixed_context_300.sh", {"NUM_ROLLOUT": "x"}, "NUM_ROLLOUT"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, script, settings, told):
    (tmp_path / "file").write_text("")
    code, _, error = run(script, **{name: value.format(tmp=tmp_path) for name, value in settings.items()})
    assert code == 2, error
    assert told in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"SAVE_DEBUG_ROLLOUT_DATA": "0"}, "the contexts are made of slime's debug rollouts"),
        (
            {"SAVE_DEBUG_ROLLOUT_DATA": "/x/{rollout_id}.pt", "METHOD_LIST": "pure_opd:1.0:1 random:0.1:2"},
            "each would replace the other's rollouts",
        ),
        ({"DIAGNOSTICS_PYTHON": "no-such-python"}, "DIAGNOSTICS_PYTHON no-such-python is not a command"),
        ({"BACKEND": "local"}, "run_local_fixed_context.sh is for the embedded engine"),
        ({"JOBS": "0"}, "JOBS 0 must be"),
    ],
)
def test_what_would_fail_after_training_is_refused_before_it(dry_run, settings, told):
    error = dry_run("qwen3_8b_to_4b", refused=True, **settings)
    assert told in error and len(error.splitlines()) == 1


def test_arguments_are_refused():
    code, _, error = run(LOCAL, "--out", "x", OUT="/nowhere/else")
    assert (code, error.count("\n")) == (2, 1)


@pytest.fixture(scope="module")
def chain(tmp_path_factory, warm_python):
    """The local chain, run once at toy size."""
    out = tmp_path_factory.mktemp("it's a") / "chain out"
    settings = {
        "PYTHON": str(warm_python), "OUT": str(out), "METHODS": "pure_opd:1.00", "TOPK": "8", "EXTRA_TOPK": "4",
        "BOOTSTRAP": "20",
        "ARGS": f"{TINY} --steps 1 --responses-per-step 4 --workers 1",
    }  # fmt: skip
    return out, settings, run(LOCAL, **settings)


def test_the_local_chain_ends_with_a_report(chain):
    out, _, (code, printed, error) = chain
    assert code == 0, error
    report = out / "report/pure_opd-1.00-seed0/report.html"
    assert f"Open:\n  {report}\n" in printed
    html = report.read_text()
    assert "Null check passed" in html
    summary = json.loads((out / "analysis/gain/pure_opd-1.00-seed0/summary.json").read_text())
    assert summary["ks"] == [4, 8]
    assert summary["null_check"]["passed"] is True


def test_what_is_finished_is_not_done_again(chain):
    out, settings, (code, _, error) = chain
    assert code == 0, error
    (out / "report/pure_opd-1.00-seed0/report.html").unlink()
    steps = out / "analysis/topn/summary.json"
    before = steps.stat().st_mtime_ns
    code, printed, error = run(LOCAL, **settings)
    assert code == 0, error
    assert printed.count("done before") == 12
    assert steps.stat().st_mtime_ns == before
    assert (out / "report/pure_opd-1.00-seed0/report.html").is_file()
