"""The command: what it writes, and one line with exit code 2 for what is wrong."""

import shutil

import polars as pl
import pytest
from fixed_context.context_bank import Sample, build_bank, write_bank
from fixed_context.report.command import main, notes
from fixed_context.report.source import read_source
from fixed_context.report.tables import read_tables
from fixed_context.statistics.settings import Settings
from fixed_context.statistics.tables import write_tables

from .report_files import ANALYSES, METADATA, metrics_frame, source_of, write_metrics

METRICS = "after/a/fixed_context_metrics.parquet"


def run(*words):
    return main([str(word) for word in words])


def test_everything_is_written_and_named(analysed, tmp_path, capsys):
    analyses = [word for name in ANALYSES for word in ("--analysis", analysed / name)]
    assert run("--input", analysed / METRICS, *analyses, "--output-dir", tmp_path / "out") == 0
    written = capsys.readouterr().out.split()
    assert sorted(written) == sorted(str(path) for path in (tmp_path / "out").rglob("*.*"))
    assert len(written) == 2 * 11 + 1
    html = (tmp_path / "out/report.html").read_text()
    for text in (
        "180 response tokens in 15 frozen contexts of 15 prompts",
        "no tokenizer was given",
        "Holm",
        "regression_summary",
        "within_q3_quarters",
    ):
        assert text in html
    assert 'id="absent"' not in html
    assert "http://" not in html.replace("http://www.w3.org", "") and "https://" not in html
    assert html.count("<img ") == html.count('src="data:image/png;base64,')


def test_what_was_not_given_is_one_paragraph_and_no_file(analysed, tmp_path):
    out = tmp_path / "out"
    assert run("--input", analysed / METRICS, "--analysis", analysed / "reach", "--output-dir", out) == 0
    html = (out / "report.html").read_text()
    assert html.count('id="absent"') == 1
    absent = html.split('id="absent"')[1].split("</p>")[0]
    assert "Selectors at the same budget (matched_fixed_context_topn)" in absent
    assert "What other selectors would have kept (replay_masks)" in absent
    assert "q3_reachability" not in absent
    assert {path.stem for path in (out / "figures").iterdir()} == {"entropy_disagreement_gain", "q3_reachability"}


def test_the_banks_own_mask_is_told(tmp_path):
    rows = [{"run": "a", "rollout_id": i, "exact": i < 2, "note": ""} for i in range(3)]
    write_tables(tmp_path, "replay_check", rows, "check")
    told = notes(source_of(metrics_frame()), read_tables([tmp_path]))
    assert "Mask replay: the bank's own mask was made again exactly in 2 of 3 rollouts: where it was not" in told[-1]


@pytest.fixture(scope="module")
def broken(analysed, tmp_path_factory):
    root = tmp_path_factory.mktemp("broken")
    frame = metrics_frame()
    metrics = analysed / METRICS
    (root / "cut.parquet").write_bytes(metrics.read_bytes()[:-50])
    write_metrics(root / "other_version.parquet", frame.with_columns(schema_version=pl.lit(9, pl.Int32)))
    write_metrics(root / "no_gain.parquet", frame.drop("G_KLf"))
    write_metrics(root / "nan.parquet", frame.with_columns(G_KLf=pl.lit(float("nan"))))
    write_metrics(root / "short.parquet", frame.head(100))
    write_metrics(root / "other_gains.parquet", metrics_frame("none"), baseline={"student_fingerprint": "before"})
    before = frame.rename({name: name[5:] for name in ("base_student_top_ids", "base_student_top_logps")} | {
        "student_top_ids": "x", "student_top_logps": "y"
    })  # fmt: skip
    write_metrics(root / "before.parquet", before)
    write_metrics(root / "other_teacher.parquet", before, teacher_fingerprint="u")
    write_metrics(root / "other_before.parquet", before, student_fingerprint="another")
    (root / "tokenizer").mkdir()
    (root / "tokenizer/tokenizer.json").write_text("[]")
    bank, counts = build_bank([Sample([1], [2], "here")], None)
    write_bank(root / "bank.parquet", bank, counts)
    shutil.copytree(analysed / "gain", root / "gain")
    return root


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give --input FILE, or both --before FILE and --after FILE"),
        (["--before", "{b}/before.parquet"], "give --input FILE, or both"),
        (["--input", "{b}/nowhere.parquet"], "nowhere.parquet: no such file"),
        (["--input", "{b}/cut.parquet"], "cut.parquet: not a whole Parquet file"),
        (["--input", "{b}/other_version.parquet"], "schema version 9"),
        (["--input", "{b}/no_gain.parquet"], "missing column G_KLf"),
        (["--input", "{b}/nan.parquet"], "G_KLf is no number at 180 tokens"),
        (["--input", "{b}/short.parquet", "--analysis", "{b}/gain"], "not the same file"),
        (["--input", "{b}/other_gains.parquet", "--analysis", "{b}/gain"], "another student's analysis"),
        (["--input", "{b}/other_gains.parquet", "--before", "{b}/other_before.parquet"], "a baseline of before"),
        (["--input", "{m}", "--tokenizer", "{b}/tokenizer"], "tokenizer.json is no tokenizer"),
        (["--input", "{m}", "--analysis", "{b}"], "no table of an analysis command there"),
        (["--input", "{m}", "--before", "{b}/other_teacher.parquet"], "teacher_fingerprint"),
        (["--input", "{m}", "--context-bank", "{b}/bank.parquet"], "contexts of the metrics are not in it"),
        (["--input", "{m}", "--tokenizer", "{b}"], "--tokenizer"),
        (["--input", "{m}", "--ratios", "2"], "2"),
        (["--input", "{m}", "--q-low", "0.9", "--q-high", "0.1"], "--q-low"),
    ],
)
def test_bad_input_is_one_line(analysed, broken, tmp_path, capsys, words, told):
    filled = [word.format(b=broken, m=analysed / METRICS) for word in words]
    assert run(*filled, "--output-dir", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.startswith("fixed_context_report: error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out/report.html").exists()


def test_the_file_from_before_brings_its_top_tokens(analysed, broken):
    without = metrics_frame().drop("base_student_top_ids", "base_student_top_logps")
    write_metrics(broken / "plain.parquet", without)
    source = read_source(broken / "plain.parquet", broken / "before.parquet", None, Settings())
    there = metrics_frame()
    assert source.frame["base_student_top_ids"].to_list() == there["base_student_top_ids"].to_list()
    assert source.metadata["topk"] == METADATA["topk"]
