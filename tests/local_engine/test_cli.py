"""The command as its user meets it: a process of its own, tiny models, real files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from local_engine.cli import main

TINY = {
    "--problems": "60",
    "--held-out-problems": "8",
    "--vocab-size": "300",
    "--max-prompt-tokens": "60",
    "--teacher": "32,2,2,1,64",
    "--student": "16,1,2,1,32",
    "--teacher-steps": "6",
    "--student-steps": "4",
    "--pretrain-batch": "2",
    "--pretrain-seq-len": "64",
    "--pretrain-warmup-steps": "2",
    "--steps": "3",
    "--responses-per-step": "6",
    "--max-new-tokens": "10",
    "--frozen-contexts": "8",
    "--methods": "pure_opd teachability:0.25 random:0.25",
    "--workers": "1",
}


def command(out, **changes):
    flags = TINY | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    words = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
    return [sys.executable, "-m", "local_engine", "--out", str(out), *words]


def call(out, **changes):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    return subprocess.run(command(out, **changes), capture_output=True, text=True, env=environment, timeout=120)


def numbers(out):
    """All that must be the same when a run is repeated: everything but the seconds."""
    records = json.loads((out / "results.json").read_text())
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in (*records, *metrics)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("engine") / "out"
    done = call(out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out, done.stdout


def test_a_run_leaves_results_metrics_token_bank_plots_models_and_report(finished):
    out, printed = finished
    records = json.loads((out / "results.json").read_text())
    assert [record["method"] for record in records] == ["pure_opd", "teachability", "random"]
    for record in records:
        assert record["gain_low"] <= record["gain_mean"] <= record["gain_high"]
        assert record["kept_tokens"] <= record["valid_tokens"]
        assert record["seconds"] > 0
        assert record["label"] in printed
    assert records[0]["kept_tokens"] == records[0]["valid_tokens"]
    assert [record["vs_random_mean"] is None for record in records] == [True, False, True]
    assert len(numbers(out)) == 3 + 3 * 3
    assert len(list(out.glob("runs/*/token_bank/rollout_*.parquet"))) == 9
    assert {path.suffix for path in (out / "plots").iterdir()} == {".png", ".pdf"}
    assert {path.name for path in (out / "models").iterdir()} >= {"teacher", "student", "random-0.25-seed0"}
    assert "<!doctype html>" in (out / "report.html").read_text(encoding="utf-8")[:100].lower()
    assert "report.html" in printed
    assert "demonstration" in printed


def test_the_frozen_contexts_are_left_in_token_ids(finished):
    out, printed = finished
    records = [json.loads(line) for line in (out / "frozen_contexts.jsonl").read_text().splitlines()]
    keys = {"sample_index", "group_index", "prompt_tokens", "response_tokens", "prompt", "truncated"}
    assert len(records) == int(TINY["--frozen-contexts"])
    assert all(set(record) == keys and record["prompt_tokens"] for record in records)
    assert [record["sample_index"] for record in records] == list(range(len(records)))
    tokens = sum(len(record["response_tokens"]) for record in records)
    assert f"on {tokens:,} frozen tokens of {len(records)} held-out prompts" in printed


def test_saved_models_open_in_transformers_and_are_the_trained_ones(finished):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out, _ = finished
    tokenizer = AutoTokenizer.from_pretrained(out / "models" / "student")
    before, after = (
        AutoModelForCausalLM.from_pretrained(out / "models" / name) for name in ("student", "pure_opd-1.00-seed0")
    )
    ids = tokenizer("How many apples?", return_tensors="pt")["input_ids"]
    assert not before(ids).logits.equal(after(ids).logits)


def test_the_same_seed_gives_the_same_numbers_in_another_directory_with_more_workers(finished, tmp_path):
    assert call(tmp_path / "again", workers=2).returncode == 0
    assert numbers(tmp_path / "again") == numbers(finished[0])


def test_a_finished_run_is_not_run_again_and_methods_may_be_added(finished):
    out, _ = finished
    before = numbers(out)
    states = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/result.pt")}
    assert call(out, methods=TINY["--methods"] + " tip:0.25").returncode == 0
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in states.items())
    assert [row["method"] for row in json.loads((out / "results.json").read_text())][3:] == ["tip"]
    assert call(out).returncode == 0
    assert numbers(out) == before


@pytest.mark.parametrize(
    ("stop", "lines", "workers"),
    [(signal.SIGKILL, 0, 1), (signal.SIGINT, 1, 1), (signal.SIGKILL, 4, 2), (signal.SIGINT, 4, 2)],
)
def test_an_interrupted_run_continues_to_the_same_numbers(finished, tmp_path, stop, lines, workers):
    """Stopped during pre-training (no metrics yet), inside the first method, or inside the second."""
    out = tmp_path / "out"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command(out, workers=workers), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    metrics, deadline = out / "metrics.jsonl", time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        written = metrics.read_text().splitlines() if metrics.exists() else []
        if len(written) >= lines if lines else (out / "settings.json").exists():
            break
        time.sleep(0.002)
    process.send_signal(stop)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode in (-stop, 130, 0)
    if process.returncode == 130:
        assert "interrupted; the same command continues" in printed
        assert "Traceback" not in printed
    assert call(out).returncode == 0
    assert numbers(out) == numbers(finished[0])


def test_an_output_directory_of_other_settings_is_refused_and_left_alone(finished):
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    refused = call(out, steps=5)
    assert refused.returncode == 2
    assert "made with other settings (engine.steps 3 there, 5 here)" in refused.stderr
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def slime_lines(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


GOOD = '{"prompt": "1 + 1?", "label": "2"}'


@pytest.fixture
def refuse(tmp_path, capsys):
    def check(*says, out=tmp_path / "out", **changes):
        try:
            code = main(command(out, **changes)[3:])
        except SystemExit as stopped:
            code = stopped.code
        error = capsys.readouterr().err
        assert code == 2
        assert len(error.splitlines()) == 1, error
        for text in says:
            assert text in error
        assert not (tmp_path / "out").exists()

    return check


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.jsonl", None, "missing.jsonl"),
        ("empty.jsonl", "", "empty.jsonl"),
        ("broken.jsonl", GOOD + '\n\n{"prompt": "2 + 2?", "label": \n', "broken.jsonl:3"),
        ("key.jsonl", GOOD + '\n{"label": "4"}\n', "key.jsonl:2"),
        ("few.jsonl", GOOD, "few.jsonl: 1 distinct prompts are too few for --held-out-problems 8; at least 9"),
    ],
)
def test_a_bad_prompt_file_is_named_with_its_line_and_nothing_is_written(refuse, tmp_path, name, content, says):
    path = tmp_path / name
    if content is not None:
        path.write_text(content, encoding="utf-8")
    refuse(says, prompts=path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"methods": "teachability:0"}, ("METHODS", "0 is outside (0, 1]")),
        ({"methods": "teachability:1.5"}, ("1.5 is outside (0, 1]",)),
        ({"methods": "teachability:abc"}, ("'abc' is not a number",)),
        ({"methods": "teach:0.1"}, ("unknown method 'teach'", "teachability")),
        ({"seeds": "one"}, ("SEEDS 'one'",)),
        ({"steps": "0"}, ("--steps 0",)),
        ({"steps": "abc"}, ("--steps", "abc")),
        ({"opd_topk_metrics_k": "301"}, ("--opd-topk-metrics-k 301", "vocabulary", "300")),
        ({"opd_topk_metrics_k": "0"}, ("--opd-topk-metrics-k 0",)),
        ({"opd_score_variant": "published"}, ("--opd-score-variant", "paper", "released")),
        ({"opd_loss": "mse"}, ("--opd-loss", "sampled_token")),
        ({"opd_metric_q_low": "0.99"}, ("--opd-metric-q-low 0.99",)),
        ({"input_key": "question"}, ("--input-key", "--prompts")),
        ({"teacher": "32,2,2"}, ("--teacher '32,2,2'", "five whole numbers")),
        ({"vocab_size": "10"}, ("--vocab-size 10", "258")),
        ({"stepz": "3"}, ("--stepz",)),
        ({"pretrain_seq_len": "1"}, ("--pretrain-seq-len 1", "2 or more")),
        ({"methods": "random:0.1:abc"}, ("'abc' is not a whole number",)),
        ({"opd_jsd_beta": "0.1"}, ("--opd-jsd-beta 0.1 does nothing with --opd-loss sampled_token",)),
        ({"workers": "0"}, ("--workers 0",)),
    ],
)
def test_a_bad_flag_is_one_line_with_its_value_and_what_is_allowed(refuse, changes, says):
    refuse(*says, **changes)


def test_an_unwritable_output_directory_is_refused(refuse, tmp_path):
    (tmp_path / "file").write_text("mine")
    refuse("is a file", out=tmp_path / "file")
    refuse("cannot be written", out=tmp_path / "file" / "out")
    refuse("cannot be written", out=Path("/proc/out"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_diverges_says_so(tmp_path, workers):
    done = call(tmp_path / "out", lr="1e30", methods="pure_opd random:0.5", workers=workers)
    assert done.returncode == 1
    assert "training diverged: step 1" in done.stderr
    assert "--lr" in done.stderr


def test_problems_that_share_a_prompt_are_one_cluster_and_one_prompt_has_no_interval(tmp_path):
    rows = [json.dumps({"prompt": f"{i // 6} plus one?", "label": str(i)}) for i in range(60)]
    shared = slime_lines(tmp_path / "shared.jsonl", *rows)
    done = call(tmp_path / "out", prompts=shared, held_out_problems=1, methods="random:0.5", steps=1)
    assert done.returncode == 0, done.stderr
    assert "of 1 held-out prompts" in done.stdout
    record = json.loads((tmp_path / "out" / "results.json").read_text())[0]
    assert record["gain_low"] is None


def test_slime_and_gsm8k_files_give_a_run(tmp_path):
    chat = [{"role": "user", "content": "Sam has 3 pens and buys 4. How many?"}]
    rows = [json.dumps({"input": [{**chat[0], "content": f"{i} and {i}?"}], "target": str(2 * i)}) for i in range(60)]
    slime = slime_lines(tmp_path / "slime.jsonl", *rows)
    gsm8k = slime_lines(
        tmp_path / "gsm8k.jsonl",
        *(
            json.dumps({"question": f"What is {i} + 1?", "answer": f"{i} + 1 = {i + 1}\n#### {i + 1}"})
            for i in range(60)
        ),
    )
    few = {"methods": "random:0.5", "steps": 1}
    done = call(tmp_path / "a", prompts=slime, input_key="input", label_key="target", **few)
    assert done.returncode == 0, done.stderr
    done = call(tmp_path / "b", prompts=gsm8k, **few)
    assert done.returncode == 0, done.stderr
