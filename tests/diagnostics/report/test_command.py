"""The command: what it writes, and one line with exit code 2 for what is wrong."""

import shutil

import polars as pl
import pytest
from fixed_context.context_bank import Sample, build_bank, write_bank
from fixed_context.report.command import main
from fixed_context.report.source import read_source
from fixed_context.statistics.settings import Settings

from .report_files import METADATA, metrics_frame, write_metrics

METRICS = "after/a/fixed_context_metrics.parquet"


def run(*words):
    return main([str(word) for word in words])


def test_everything_is_written_and_named(analysed, tmp_path, capsys):
    analyses = [word for name in ("gain", "topn", "support", "measures") for word in ("--analysis", analysed / name)]
    assert run("--input", analysed / METRICS, *analyses, "--output-dir", tmp_path / "out") == 0
    written = capsys.readouterr().out.split()
    assert sorted(written) == sorted(str(path) for path in (tmp_path / "out").rglob("*.*"))
    assert len(written) == 15
    html = (tmp_path / "out/report.html").read_text()
    for text in (
        "180 response tokens in 15 frozen contexts of 15 prompts",
        "no tokenizer was given",
        "Holm",
        "regression_summary",
    ):
        assert text in html
    assert "http://" not in html.replace("http://www.w3.org", "") and "https://" not in html
    assert html.count("<img ") == html.count('src="data:image/png;base64,')


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
    before = frame.rename({name: name[5:] for name in ("base_student_top_ids", "base_student_top_logps")} | {
        "student_top_ids": "x", "student_top_logps": "y"
    })  # fmt: skip
    write_metrics(root / "before.parquet", before)
    write_metrics(root / "other_teacher.parquet", before, teacher_fingerprint="u")
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
        (["--input", "{b}/nan.parquet"], "column G_KLf holds no number"),
        (["--input", "{b}/short.parquet", "--analysis", "{b}/gain"], "not the same file"),
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
