"""One line a run, whatever the state that the runs are in."""

import csv
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .bank_files import rows_of, write_bank

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import summarize_runs
from run_summary.record import COLUMNS
from run_summary.state import read_state, status_of, train_seconds

STATES = {
    "finished": ["train start 100", "train ok 160", "merge ok 161", "score skip 161", "done ok 162"],
    "failed at train": ["teacher ok 90", "train start 100", "train fail 160"],
    "stopped at train": ["teacher ok 90", "train start 100"],
    "stopped after merge": ["train start 100", "train ok 160", "merge ok 170"],
    "not started": [],
}


def state_text(lines):
    return "".join("\t".join([*line.split(), ""]) + "\n" for line in lines)


def write_run(suite, index, status="finished", method="tip", mask="tip", ratio="0.10", **variables):
    run = suite / "runs" / f"{method}-{ratio}-seed{index}"
    run.mkdir(parents=True)
    values = {"METHOD": method, "MASK": mask, "RATIO": ratio, "INDEX": str(10 * index), "SEED": str(index)}
    values |= {"NUM_ROLLOUT": "20", "BACKEND": "slime", "LOG_DIR": ""} | variables
    (run / "settings.json").write_text(json.dumps({"format_version": 1, "variables": values}))
    if STATES[status]:
        (run / "state.tsv").write_text(state_text(STATES[status]))
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three runs with banks of 20, 20 and 2 rollouts, and one that was not begun."""
    suite = tmp_path_factory.mktemp("made") / "suite"
    for index, status in enumerate(("finished", "failed at train", "stopped at train"), start=1):
        run = write_run(suite, index, status)
        write_bank(
            run / "token_bank", rollouts=range(20 if index < 3 else 2), seed=index, budget_mask="tip", budget_ratio=0.1
        )
        (run / "logs").mkdir()
        (run / "logs" / "train.log").touch()
    write_run(suite, 4, "not started")
    return suite


@pytest.fixture
def suite(made, tmp_path):
    return shutil.copytree(made, tmp_path / "suite")


def summarize(suite, *flags):
    """The records as --json prints them, beside the files."""
    assert summarize_runs.main([str(suite), *flags]) == 0
    with (suite / "summary.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def mean(values):
    values = [value for value in values if value is not None]
    return math.fsum(values) / len(values)


def test_the_numbers_are_those_of_the_token_bank(suite):
    line = summarize(suite)[0]
    bank = suite / "runs" / "tip-0.10-seed1" / "token_bank"
    rollouts = [rows_of(path) for path in sorted(bank.glob("rollout_*"))]
    rows = [row for rollout in rollouts for row in rollout]
    kept = [row for row in rows if row["budget_keep"]]
    assert (line["valid_tokens"], line["kept_tokens"]) == ("160", str(len(kept)))
    assert float(line["keep_ratio"]) == len(kept) / 160
    for name, part in (("reverse_kl_first", rollouts[:2]), ("reverse_kl_last", rollouts[-2:])):
        expected = mean(row["sampled_reverse_kl"] for rollout in part for row in rollout)
        assert float(line[name]) == pytest.approx(expected, rel=1e-6)
    for name in ("Hs", "KLf_union", "Cmass"):
        assert float(line[f"kept_{name}"]) == pytest.approx(mean(row[name] for row in kept), rel=1e-6)
    assert (line["rollouts"], line["num_rollout"], line["train_seconds"]) == ("20", "20", "60")
    assert line["log"] == "runs/tip-0.10-seed1/logs/train.log"
    assert (line["method"], line["mask"], line["ratio"], line["idx"], line["seed"]) == ("tip", "tip", "0.1", "10", "1")


def test_tokens_outside_the_loss_mask_do_not_count(suite):
    bank = suite / "runs" / "tip-0.10-seed4" / "token_bank"
    write_bank(bank, rollouts=(0,))
    path = bank / "rollout_000000.parquet"
    table = pq.read_table(path)
    columns = {"loss_mask_original": [1, 0] * 4, "sampled_reverse_kl": [1.0, 50.0, None, 50.0, 2.0, 50.0, 3.0, 50.0]}
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.array(values, table.schema.field(name).type))
    pq.write_table(table, path)
    assert float(summarize(suite)[3]["reverse_kl_first"]) == 2.0


def test_status_and_cells_of_every_run(suite):
    lines = summarize(suite)
    assert [line["status"] for line in lines] == ["finished", "failed at train", "stopped at train", "not started"]
    assert lines[1]["train_seconds"] == "60" and lines[2]["train_seconds"] == ""
    empty = {name for name, cell in lines[3].items() if not cell}
    assert {"rollouts", "valid_tokens", "keep_ratio", "reverse_kl_first", "gain", "log", "train_seconds"} <= empty
    assert not {name for name in empty if name in ("run", "method", "seed", "num_rollout")}


def test_csv_markdown_json_and_terminal_say_the_same_and_do_not_change(suite, capsys):
    summarize(suite, "--json")
    records = json.loads(capsys.readouterr().out)
    first = {name: (suite / name).read_bytes() for name in ("summary.csv", "summary.md")}
    lines = summarize(suite)
    shown = capsys.readouterr().out
    assert {name: (suite / name).read_bytes() for name in first} == first
    for record, line in zip(records, lines, strict=True):
        assert tuple(record) == tuple(line) == COLUMNS
        texts = {name: "" if value is None else str(value) for name, value in record.items()}
        assert line == texts | {"notes": "; ".join(record["notes"])}
        assert record["run"] in shown and f"| {record['run']} |" in first["summary.md"].decode()


SPOILED = {
    "settings": ("settings.json", lambda path: path.write_text('{"variables": {"METH'), {"method", "seed"}),
    "settings of another kind": ("settings.json", lambda path: path.write_text("[1]"), {"method"}),
    "no settings": ("settings.json", Path.unlink, {"method", "num_rollout"}),
    "summary": (
        "token_bank/summary.csv",
        lambda path: path.write_text(path.read_text()[:-60]),
        {"valid_tokens", "keep_ratio", "reverse_kl_last"},
    ),
    "no summary": ("token_bank/summary.csv", Path.unlink, {"rollouts", "kept_tokens"}),
    "last rollout": (
        "token_bank/rollout_000019.parquet",
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        {"reverse_kl_last", "kept_Hs", "kept_Cmass"},
    ),
    "lost rollout": ("token_bank/rollout_000000.parquet", Path.unlink, {"reverse_kl_first", "kept_KLf_union"}),
    "gain": ("fixed_context/fixed_context_metrics.parquet", lambda path: path.write_bytes(b"PAR1"), {"gain"}),
    "no baseline": (
        "fixed_context/fixed_context_metrics.parquet",
        lambda path: pq.write_table(pa.table({"prompt_id": ["a"], "loss_mask": [1]}), path),
        {"gain", "gain_low"},
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_is_broken_in_one_run_empties_its_cells_says_why_and_hides_nothing_else(suite, case):
    whole = summarize(suite)
    name, spoil, emptied = SPOILED[case]
    path = suite / "runs" / "tip-0.10-seed2" / name
    path.parent.mkdir(exist_ok=True)
    spoil(path)
    lines = {line["run"]: line for line in summarize(suite)}
    for line in whole:
        if line["run"] != "tip-0.10-seed2":
            assert lines[line["run"]] == line
    spoiled = lines["tip-0.10-seed2"]
    assert all(spoiled[column] == "" for column in emptied)
    assert Path(name).stem in spoiled["notes"]
    before = next(line for line in whole if line["run"] == "tip-0.10-seed2")
    for column in ("status", "train_seconds"):
        assert spoiled[column] == before[column]
    if case == "last rollout":
        assert spoiled["reverse_kl_first"] == before["reverse_kl_first"] and spoiled["valid_tokens"] == "160"
    assert spoiled["notes"] in (suite / "summary.md").read_text() or ";" in spoiled["notes"]


def write_metrics(run, gains, prompts, mask):
    path = run / "fixed_context" / "fixed_context_metrics.parquet"
    path.parent.mkdir()
    columns = {"G_KLf": pa.array(gains, pa.float32()), "prompt_id": prompts, "loss_mask": pa.array(mask, pa.int8())}
    pq.write_table(pa.table(columns), path)


def test_the_gain_is_the_mean_over_the_scored_tokens_with_an_interval_over_prompts(suite):
    generator = np.random.default_rng(0)
    prompts = np.repeat([f"{i:016x}" for i in range(30)], 8)
    gains = (generator.normal(0.2, 0.1, 30).repeat(8) + generator.normal(0, 0.01, 240)).astype(np.float32)
    mask = generator.random(240) < 0.8
    write_metrics(suite / "runs" / "tip-0.10-seed1", np.where(mask, gains, np.nan), prompts, mask)
    line = summarize(suite)[0]
    assert float(line["gain"]) == pytest.approx(gains[mask].mean(dtype=np.float64), rel=1e-6)
    # Tokens of a prompt hang together: the interval is that of 30 prompts, six times that of 240 single tokens.
    half = (float(line["gain_high"]) - float(line["gain_low"])) / 2
    assert half == pytest.approx(1.96 * 0.1 / math.sqrt(30), rel=0.4)


def test_a_token_without_a_gain_leaves_the_gain_empty(suite):
    write_metrics(suite / "runs" / "tip-0.10-seed1", [0.1, None], ["a", "b"], [1, 1])
    line = summarize(suite)[0]
    assert line["gain"] == "" and "1 of 2 tokens have no gain" in line["notes"]


@pytest.fixture
def local_suite(tmp_path):
    """As BACKEND=local leaves it: the engine's banks and results beside the runs. METHOD is an alias."""
    suite = tmp_path / "local"
    run = write_run(suite, 1, method="dlearn", mask="dlearn_high", BACKEND="local")
    write_run(suite, 2, "not started", method="random", mask="random", BACKEND="local")
    engine = suite / "engine"
    write_bank(engine / "runs" / "teachability-0.10-seed1" / "token_bank", rollouts=range(3))
    (engine / "settings.json").write_text(json.dumps({"engine": {"steps": 16}}))
    record = {"method": "teachability", "ratio": 0.1, "seed": 1, "gain_mean": 0.25, "gain_low": 0.2, "gain_high": None}
    others = [record | change | {"gain_mean": 9.0} for change in ({"seed": 2}, {"ratio": 0.2}, {"method": "tip"})]
    (engine / "results.json").write_text(json.dumps([*others, record]))
    return suite, run


def test_a_run_of_the_embedded_engine_has_its_bank_steps_and_gain(local_suite):
    suite, _ = local_suite
    line, other = summarize(suite)
    assert (line["rollouts"], line["num_rollout"], line["valid_tokens"]) == ("3", "16", "24")
    assert (line["gain"], line["gain_low"], line["gain_high"]) == ("0.25", "0.2", "")
    assert (other["rollouts"], other["gain"], other["num_rollout"]) == ("", "", "16")


@pytest.mark.parametrize("text", ['[{"method": "teach', "{}", "[1]", '[{"method": "teachability"}]'])
def test_broken_results_of_the_engine_leave_the_gain_empty(local_suite, text):
    suite, _ = local_suite
    (suite / "engine" / "results.json").write_text(text)
    line = summarize(suite)[0]
    assert line["gain"] == "" and line["valid_tokens"] == "24"
    assert ("results.json" in line["notes"]) is (text != "{}")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([line for lines in STATES.values() for line in lines]), max_size=8), st.data())
def test_a_torn_line_of_the_state_counts_for_nothing(tmp_path_factory, lines, data):
    text = state_text(lines)
    cut = data.draw(st.integers(0, len(text)))
    path = tmp_path_factory.mktemp("state") / "state.tsv"
    path.write_text(text[:cut])
    steps = read_state(path)
    assert [f"{step.stage} {step.status} {step.seconds}" for step in steps] == lines[: text[:cut].count("\n")]
    path.write_text(text[:cut] + "\n" + state_text(["done ok 999"]))
    assert status_of(read_state(path)) == "finished"


@pytest.mark.parametrize("status", STATES)
def test_the_status_follows_from_the_lines(tmp_path, status):
    path = tmp_path / "state.tsv"
    path.write_text(state_text(STATES[status]))
    assert status_of(read_state(path)) == status


def test_training_seconds_are_of_whole_attempts_and_say_when_one_was_killed(tmp_path):
    path = tmp_path / "state.tsv"
    for lines, expected, noted in (
        (["train start 100", "train fail 130", "train start 200", "train ok 260"], 90, False),
        (["train start 100", "train start 200", "train ok 260"], 60, True),
        (["train start 100"], None, False),
        (["train ok 260"], None, False),
    ):
        path.write_text(state_text(lines))
        seconds, note = train_seconds(read_state(path))
        assert (seconds, bool(note)) == (expected, noted)


def test_a_log_elsewhere_is_found_by_its_path(tmp_path):
    suite = tmp_path / "suite"
    write_run(suite, 1, LOG_DIR=str(tmp_path / "logs" / "run"))
    (tmp_path / "logs" / "run").mkdir(parents=True)
    (tmp_path / "logs" / "run" / "train.log").touch()
    assert summarize(suite)[0]["log"] == str(tmp_path / "logs" / "run" / "train.log")


def test_single_runs_and_several_suites_are_written_only_with_an_output(suite, tmp_path, capsys):
    shutil.copytree(suite, tmp_path / "second")
    run = suite / "runs" / "tip-0.10-seed1"
    for directories in ([run], [suite, tmp_path / "second"]):
        assert summarize_runs.main([str(directory) for directory in directories]) == 0
        assert not list(tmp_path.glob("*/summary.*"))
    assert "second/tip-0.10-seed1" in capsys.readouterr().out
    output = tmp_path / "out"
    assert summarize_runs.main([str(suite), str(tmp_path / "second"), "--output", str(output)]) == 0
    assert len((output / "summary.csv").read_text().splitlines()) == 9


@pytest.mark.parametrize(("name", "said"), [("nowhere", "no such directory"), (".", "neither a suite")])
def test_a_directory_of_no_runs_is_refused(tmp_path, capsys, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    assert summarize_runs.main([name]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
