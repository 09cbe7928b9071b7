"""Downstream evaluation: names and caps, the harness's command, its results file, and runs that fail or were done."""

import csv
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import evaluate_downstream
from downstream.benchmarks import HARNESS_TASKS, Benchmark, parse_benchmarks
from downstream.results import read_rows
from lm_eval_tasks import GROUP, write_tasks

HERE = Path(__file__).resolve().parent
WRITTEN = HERE / "lm_eval_results.json"  # by lm_eval 0.4.13 for lm_eval_tasks.py, --model dummy --limit 2, cut down
LM_EVAL = os.environ.get("LM_EVAL_PYTHON") or (sys.executable if importlib.util.find_spec("lm_eval") else None)
with_harness = pytest.mark.skipif(
    LM_EVAL is None, reason="needs lm-eval: LM_EVAL_PYTHON=a Python with lm-eval[hf,math]"
)

# Answers `python -c` and `python -m lm_eval` as a Python with the harness would; fails for tasks named in FAILS.
STAND_IN = f"""#!{sys.executable}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
if sys.argv[1] == "-c":
    print((here / "version").read_text())
    sys.exit()
value = lambda flag: sys.argv[sys.argv.index(flag) + 1]
with (here / "calls").open("a") as calls:
    calls.write(value("--tasks") + "\\n")
if value("--tasks") in (here / "fails").read_text().split():
    sys.exit(9)
results = json.loads(pathlib.Path({str(WRITTEN)!r}).read_text())
for part in ("results", "n-samples", "n-shot", "versions"):
    results[part][value("--tasks")] = results[part]["tiny_sums"]
folder = pathlib.Path(value("--output_path")) / "the__model"
folder.mkdir(parents=True)
(folder / "results_2026-01-01T00-00-00.0.json").write_text(json.dumps(results))
"""


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / 'a model, it\'s="new"'
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def stand_in(tmp_path):
    path = tmp_path / "python with harness"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    for name, text in (("version", "0.4.13"), ("fails", ""), ("calls", "")):
        (tmp_path / name).write_text(text)
    return path


def run(capsys, *arguments):
    try:
        code = evaluate_downstream.main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_aime_is_capped_and_the_others_are_whole():
    assert parse_benchmarks("gsm8k,math_hard aime", None, 12) == [
        Benchmark("gsm8k", "gsm8k"),
        Benchmark("math_hard", "leaderboard_math_hard"),
        Benchmark("aime", "aime24", 12),
    ]
    assert [benchmark.limit for benchmark in parse_benchmarks("gsm8k aime aime25", 5, 30)] == [5, 5, 5]
    assert parse_benchmarks("harness:gsm8k_cot", None, 30) == [Benchmark("harness:gsm8k_cot", "gsm8k_cot")]


@pytest.mark.parametrize(
    ("tasks", "limit", "aime_limit", "why"),
    [
        ("gsm8", None, 30, "did you mean gsm8k?"),
        ("mmlu", None, 30, "choose from gsm8k, math_hard, aime"),
        (" , ", None, 30, "--tasks is empty"),
        ("harness:", None, 30, "name of the task is missing"),
        ("gsm8k,gsm8k", None, 30, "names gsm8k twice"),
        ("gsm8k", 0, 30, "--limit 0: must be at least 1"),
        ("aime", None, -1, "--aime-limit -1: must be at least 1"),
    ],
)
def test_a_wrong_list_of_benchmarks_is_refused(tasks, limit, aime_limit, why):
    with pytest.raises(ValueError, match=why.replace("?", r"\?")):
        parse_benchmarks(tasks, limit, aime_limit)


def test_a_dry_run_prints_commands_that_survive_a_shell_and_writes_nothing(model, tmp_path, capsys):
    code, printed, _ = run(
        capsys,
        *("--model", model, "--tasks", "gsm8k,aime", "--output", tmp_path / "out", "--backend", "vllm", "--dry-run"),
        *("--model-arg", "tensor_parallel_size=2", "--model-arg", "revision=main", "--chat-template", "--seed", "7"),
    )
    assert code == 0 and not (tmp_path / "out").exists()
    first, second = (
        subprocess.check_output(["bash", "-c", f"printf '%s\\n' {line}"], text=True) for line in printed.splitlines()
    )
    words = first.splitlines()
    assert words[:5] == [sys.executable, "-m", "lm_eval", "--model", "vllm"]
    given = json.loads(words[words.index("--model_args") + 1])
    assert given == {"pretrained": str(model), "dtype": "auto", "tensor_parallel_size": 2, "revision": "main"}
    assert words[words.index("--seed") + 1] == "7" and "--apply_chat_template" in words and "--limit" not in words
    assert "--limit\n30\n" in second and "\naime24\n" in second


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--device", "cuda:0", "--backend", "sglang"], "--device is for --backend hf"),
        (["--batch-size", "many"], "--batch-size many: must be auto, auto:N or a number"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--seed", "-1"], "--seed -1: must be at least 0"),
        (["--model-arg", "tp"], "--model-arg tp: must be NAME=VALUE"),
        (["--model", "/nowhere"], "--model /nowhere is no Hugging Face model"),
        (["--backend", "tgi"], "invalid choice: 'tgi'"),
        (["--tasks", "amie"], "did you mean aime?"),
        (["--python", "/nowhere/python"], "--python /nowhere/python cannot be run"),
    ],
)
def test_a_mistake_is_one_line(model, tmp_path, capsys, arguments, why):
    code, _, said = run(capsys, "--model", model, "--output", tmp_path / "out", *arguments)
    assert code == 2 and why in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("found", ["0.4.8", "0.3.0", "0.5.0", "1.0"])
def test_another_harness_than_the_supported_ones_is_refused(model, stand_in, tmp_path, capsys, found):
    (tmp_path / "version").write_text(found)
    code, _, said = run(capsys, "--model", model, "--output", tmp_path / "out", "--python", stand_in)
    assert code == 2 and f"lm_eval {found} is not supported; install another" in said


def test_a_missing_harness_asks_for_its_install(model, tmp_path, capsys):
    bare = tmp_path / "bare python"  # -S: without site-packages, so without lm_eval wherever the tests run
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    code, _, said = run(capsys, "--model", model, "--output", tmp_path / "out", "--python", bare)
    assert code == 2 and said.count("\n") == 1
    assert "lm_eval cannot be imported" in said and "-m pip install 'lm-eval[hf,math]>=0.4.9,<0.5'" in said


def test_the_harness_s_own_file_becomes_rows():
    rows = read_rows(WRITTEN, Benchmark("sums", GROUP, 2), "lm_eval 0.4.13", 3, "the command")
    by_key = {(row.part, row.filter): row for row in rows}
    assert len(rows) == len(by_key) == 6
    # "lol" is the answer to one of tiny_sums' first two and to neither of tiny_more_sums; the regex makes "l" of it.
    assert by_key["tiny_sums", "strict-match"].value == 0.5 and by_key["tiny_more_sums", "strict-match"].value == 0
    assert by_key["", "strict-match"].value == 0.25 and by_key["", "flexible-extract"].value == 0
    whole = by_key["", "strict-match"]
    assert (whole.task, whole.harness_task, whole.metric, whole.n, whole.n_all, whole.limit) == (
        "sums",
        GROUP,
        "exact_match",
        4,
        5,
        2,
    )
    assert (whole.shots, whole.task_version, whole.seed, whole.command) == (0, "2.0", 3, "the command")
    assert by_key["tiny_sums", "strict-match"].stderr == pytest.approx(0.5)  # sqrt(0.5 * 0.5 / (2 - 1))


def change(path, value):
    def edit(read):
        for name in path[:-1]:
            read = read[name]
        read[path[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (change(["results", GROUP, "exact_match,strict-match"], None), "is None, not a finite number"),
        (change(["results", GROUP, "exact_match,strict-match"], float("nan")), "is nan, not a finite number"),
        (change(["results", "tiny_sums", "exact_match,strict-match"], "N/A"), "is 'N/A', not a finite number"),
        (change(["results", GROUP], {"alias": "x"}), "has no metric of tiny_group"),
        (change(["results"], {"other": {}}), "has no results of tiny_group, only of other"),
        (change(["n-samples"], {}), "does not say how many problems of tiny_group were asked"),
    ],
)
def test_a_number_that_is_missing_is_never_made_up(tmp_path, edit, why):
    read = json.loads(WRITTEN.read_text())
    edit(read)
    (tmp_path / "results_1.json").write_text(json.dumps(read))
    with pytest.raises(ValueError, match=why):
        read_rows(tmp_path / "results_1.json", Benchmark("sums", GROUP), "", 0, "")
    (tmp_path / "results_1.json").write_text('{"results": {')
    with pytest.raises(ValueError, match="is no whole results file"):
        read_rows(tmp_path / "results_1.json", Benchmark("sums", GROUP), "", 0, "")


def test_a_standard_error_that_the_harness_does_not_have_is_an_empty_cell(tmp_path):
    read = json.loads(WRITTEN.read_text())
    change(["results", GROUP, "exact_match_stderr,strict-match"], "N/A")(read)
    (tmp_path / "results_1.json").write_text(json.dumps(read))
    assert read_rows(tmp_path / "results_1.json", Benchmark("sums", GROUP), "", 0, "")[0].stderr is None


def test_a_benchmark_that_fails_does_not_take_the_others_along_and_is_the_only_one_run_again(
    model, stand_in, tmp_path, capsys
):
    call = ("--model", model, "--output", tmp_path / "out", "--python", stand_in, "--tasks", "gsm8k,math_hard,aime")
    (tmp_path / "fails").write_text("leaderboard_math_hard")
    code, _, said = run(capsys, *call)
    table = json.loads((tmp_path / "out" / "downstream.json").read_text())
    assert code == 1 and "math_hard failed: the harness ended with exit code 9" in said
    assert [row["task"] for row in table["rows"]] == ["gsm8k"] * 2 + ["aime"] * 2
    assert [failure["task"] for failure in table["failed"]] == ["math_hard"]
    assert (table["harness"], table["model"]) == ("lm_eval 0.4.13", str(model))

    (tmp_path / "fails").write_text("")
    (tmp_path / "calls").write_text("")
    assert run(capsys, *call)[0] == 0
    assert (tmp_path / "calls").read_text().split() == ["leaderboard_math_hard"]
    table = json.loads((tmp_path / "out" / "downstream.json").read_text())
    assert table["failed"] == [] and len(table["rows"]) == 6
    with (tmp_path / "out" / "downstream.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["task"], row["limit"]) for row in rows[::2]] == [("gsm8k", ""), ("math_hard", ""), ("aime", "30")]
    assert all(json.dumps(str(model)) in "".join(shlex.split(row["command"])) for row in rows)


@pytest.mark.parametrize("new", ["weights", "seed", "harness", "force"])
def test_another_model_or_command_or_harness_is_evaluated_anew(model, stand_in, tmp_path, capsys, new):
    call = ["--model", model, "--output", tmp_path / "out", "--python", stand_in, "--tasks", "gsm8k"]
    assert run(capsys, *call)[0] == 0
    assert run(capsys, *call)[0] == 0
    assert (tmp_path / "calls").read_text().split() == ["gsm8k"]
    if new == "weights":
        (model / "model.safetensors").write_bytes(b"new weights")
    if new == "harness":
        (tmp_path / "version").write_text("0.4.12")
    assert run(capsys, *call, *{"seed": ["--seed", "1"], "force": ["--force"]}.get(new, []))[0] == 0
    assert (tmp_path / "calls").read_text().split() == ["gsm8k"] * 2


@with_harness
def test_the_harness_knows_our_tasks_by_these_names():
    ask = "import json; from lm_eval.tasks import TaskManager; print(json.dumps(list(TaskManager().all_tasks)))"
    done = subprocess.run([LM_EVAL, "-c", ask], capture_output=True, text=True, check=True)
    assert set(HARNESS_TASKS.values()) <= set(json.loads(done.stdout.splitlines()[-1]))


@with_harness
def test_a_tiny_model_is_evaluated_by_the_real_harness(tmp_path, capsys, monkeypatch):
    sys.path.insert(0, str(HERE.parents[1]))
    from tests.stack.sglang.tiny_models import write_tiny_models

    for name, value in (("HF_HUB_OFFLINE", "1"), ("HF_HOME", str(tmp_path / "home"))):
        monkeypatch.setenv(name, value)
    write_tasks(tmp_path)
    model = write_tiny_models(tmp_path)["student"]
    where = ("--model", model, "--output", tmp_path / "out", "--python", LM_EVAL, "--include-path", tmp_path)
    code, _, said = run(capsys, *where, "--tasks", f"harness:{GROUP}", "--device", "cpu", "--batch-size", "2")
    assert code == 0, said
    rows = json.loads((tmp_path / "out" / "downstream.json").read_text())["rows"]
    assert [(row["part"], row["n"]) for row in rows] == [
        (part, n) for part, n in (("", 5), ("tiny_more_sums", 2), ("tiny_sums", 3)) for _ in "12"
    ]
    assert all(0 <= row["value"] <= 1 for row in rows)
