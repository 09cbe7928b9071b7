"""The commands end to end on small files: what they write, and one line with exit code 2 for what is wrong."""

import json

import pytest
from fixed_context.commands import budget, gain, measures, q3, replay, support, topn
from fixed_context.schema import write_parquet

from ..statistics.planted import planted_frame

METADATA = {"schema_version": 1, "topk": 16, "teacher_fingerprint": "t", "dtype": "float32", "vocabulary": 500}
FAST = ["--bootstrap", "30"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("gains")
    for name, effect in (("a", "learnable"), ("b", "none")):
        (root / name).mkdir()
        frame = planted_frame(effect, 15, 12)
        write_parquet(root / name / "fixed_context_metrics.parquet", frame.to_arrow(), METADATA)
    zero = planted_frame("zero", 15, 12)
    write_parquet(root / "null.parquet", zero.to_arrow(), METADATA)
    write_parquet(root / "empty.parquet", zero.head(0).to_arrow(), METADATA)
    write_parquet(root / "short.parquet", zero.drop("base_Hs", "base_Ht").to_arrow(), METADATA)
    (root / "cut.parquet").write_bytes((root / "null.parquet").read_bytes()[:-100])
    (root / "runs.csv").write_text("method,ratio,gain\na,0.1,1\n")
    return root


def metrics(files, name="a"):
    return str(files / name / "fixed_context_metrics.parquet")


def test_every_command_writes_its_tables_and_a_summary(files, tmp_path, capsys):
    calls = {
        "gain": (gain.main, ["--input", metrics(files), "--null", files / "null.parquet", *FAST], "--output-dir"),
        "topn": (topn.main, ["--input-root", files, "--ratios", "0.1,0.2", *FAST], "--out-dir"),
        "support": (
            support.main,
            ["--dataset", f"x={metrics(files)}", "--dataset", f"y={metrics(files, 'b')}", "--n-boot", "30"],
            "--output-dir",
        ),
        "within": (q3.main_within, ["--input", f"16:{metrics(files)}", *FAST], "--output-dir"),
        "reach": (q3.main_reachability, ["--input", metrics(files), *FAST], "--output-dir"),
        "budget": (budget.main, ["--input", files / "runs.csv"], "--output-dir"),
        "replay": (
            replay.main,
            ["--input", metrics(files), "--methods", "teachability:0.1 entropy:0.1"],
            "--output-dir",
        ),
    }
    for name, (main, arguments, flag) in calls.items():
        assert main([*map(str, arguments), flag, str(tmp_path / name)]) == 0, capsys.readouterr().err
        written = capsys.readouterr().out.split()
        assert any(path.endswith("summary.json") for path in written)
        json.loads((tmp_path / name / "summary.json").read_text())
    assert json.loads((tmp_path / "gain" / "summary.json").read_text())["null_check"]["passed"] is True
    assert set(json.loads((tmp_path / "topn" / "summary.json").read_text())["datasets"]) == {"a", "b"}


def test_measures_of_a_checkpoint_are_written(files, tmp_path):
    frame = planted_frame("none", 6, 5).rename({"base_Hs": "Hs", "base_Ht": "Ht", "base_Coverlap": "Coverlap"})
    write_parquet(tmp_path / "m.parquet", frame.to_arrow(), METADATA)
    assert measures.main(["--input", f"now={tmp_path / 'm.parquet'}", "--output-dir", str(tmp_path / "o"), *FAST]) == 0
    rows = json.loads((tmp_path / "o" / "summary.json").read_text())["training"]
    assert {r["measure"] for r in rows} == {"overlap_ratio", "entropy_gap"}


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (gain.main, ["--input", "{root}/none.parquet"], "no such file"),
        (gain.main, ["--input", "{root}/cut.parquet"], "not a whole Parquet file"),
        (gain.main, ["--input", "{root}/empty.parquet"], "no token"),
        (gain.main, ["--input", "{root}/short.parquet"], "missing columns Hs, Ht"),
        (gain.main, ["--input", "{root}/null.parquet", "--q-low", "0.99"], "--q-low 0.99"),
        (gain.main, ["--input", "{root}/null.parquet", "--gain-col", "G_X"], "missing column G_X"),
        (gain.main, [], "--input FILE, or both"),
        (gain.main, ["--input", "{root}/null.parquet", "--bootstrap", "x"], "invalid int value"),
        (q3.main_within, ["--input", "16"], "K=PATH"),
        (q3.main_within, ["--input", "8:{root}/null.parquet"], "says that its K is 16"),
        (support.main, ["--dataset", "a={root}/null.parquet", "--dataset", "a={root}/null.parquet"], "given twice"),
        (budget.main, ["--input", "{root}/runs.csv", "--metric-col", "x"], "--metric-col x"),
        (replay.main, ["--input", "{root}/runs.csv"], "not Parquet"),
        (replay.main, ["--input", "{root}/null.parquet", "--methods", "x:1"], "unknown method 'x'"),
        (measures.main, ["--input", "nowhere"], "NAME=PATH"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_two(files, tmp_path, capsys, main, arguments, message):
    arguments = [a.format(root=files) for a in arguments]
    try:
        code = main([*arguments, "--output-dir", str(tmp_path)])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.count("\n") == 1, error


def test_ratios_that_make_no_sense_are_refused(files, tmp_path, capsys):
    for ratios, message in (("0", "--opd-budget-ratio 0"), ("0.1,0.1", "once"), ("a", "numbers")):
        assert topn.main(["--input-root", str(files), "--out-dir", str(tmp_path), "--ratios", ratios]) == 2
        assert message in capsys.readouterr().err
