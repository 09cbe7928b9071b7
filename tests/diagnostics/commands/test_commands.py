"""The commands end to end on small files: what they write, and one line with exit code 2 for what is wrong."""

import json

import polars as pl
import pyarrow.parquet as pq
import pytest
from fixed_context.commands import budget, gain, measures, q3, replay, support, topn
from fixed_context.context_bank import Sample, build_bank, write_bank
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
    flipped = planted_frame("learnable", 15, 12).with_columns(G_KLf=-pl.col("G_KLf"))
    write_parquet(root / "flipped.parquet", flipped.to_arrow(), METADATA)
    write_parquet(root / "masked.parquet", metrics_frame().with_columns(loss_mask=0).to_arrow(), METADATA)
    bank, counts = build_bank([Sample([1, 2], [3], "test")], None)
    write_bank(root / "contexts.parquet", bank, counts)
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
        (gain.main, ["--input", "{root}/short.parquet"], "missing columns base_Hs, base_Ht"),
        (gain.main, ["--input", "{root}/null.parquet", "--q-low", "0.99"], "--q-low 0.99"),
        (gain.main, ["--input", "{root}/null.parquet", "--gain-col", "G_X"], "missing column G_X"),
        (gain.main, [], "--input FILE, or both"),
        (gain.main, ["--input", "{root}/null.parquet", "--bootstrap", "x"], "invalid int value"),
        (gain.main, ["--input", "{root}/null.parquet", "--seed", "-1"], "--seed -1 must be 0 or more"),
        (gain.main, ["--input", "{root}/null.parquet", "--bootstrap", "1"], "--bootstrap 1 must be 2 or more"),
        (
            gain.main,
            ["--input", "{root}/null.parquet", "--group-col", "base_Hs"],
            "column base_Hs is Float64, not a name",
        ),
        (gain.main, ["--input", "{root}/flipped.parquet"], "flipped.parquet: G_KLf is not base_KLf - KLf at 180 of"),
        (q3.main_within, ["--input", "16"], "K=PATH"),
        (q3.main_within, ["--input", "8:{root}/null.parquet"], "says that its K is 16"),
        (support.main, ["--dataset", "a={root}/null.parquet", "--dataset", "a={root}/null.parquet"], "given twice"),
        (support.main, ["--dataset", "a={root}/null.parquet", "--n-boot", "-3"], "--n-boot -3 must be 2 or more"),
        (measures.main, ["--input", "a={root}/masked.parquet"], "masked.parquet: no token counts"),
        (budget.main, ["--input", "{root}/runs.csv", "--metric-col", "x"], "--metric-col x"),
        (replay.main, ["--input", "{root}/runs.csv"], "not Parquet"),
        (replay.main, ["--input", "{root}/empty.parquet"], "empty.parquet: none of 0 tokens counts"),
        (replay.main, ["--input", "{root}/masked.parquet"], "masked.parquet: none of 180 tokens counts"),
        (replay.main, ["--input", "{root}/null.parquet", "--methods", "x:1"], "--methods 'x:1': unknown method 'x'"),
        (replay.main, ["--input", "{root}/contexts.parquet"], "contexts.parquet: columns missing: tok_pos, pos_norm"),
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


READERS = {
    "gain": lambda path: (gain.main, ["--input", path]),
    "topn": lambda path: (topn.main, ["--input-root", path]),
    "support": lambda path: (support.main, ["--dataset", f"a={path}"]),
    "within": lambda path: (q3.main_within, ["--input", f"16:{path}"]),
    "reach": lambda path: (q3.main_reachability, ["--input", path]),
    "measures": lambda path: (measures.main, ["--input", f"a={path}"]),
    "replay": lambda path: (replay.main, ["--input", path]),
}
"""Every command that reads a metrics file."""


def refusal(command, path, tmp_path, capsys):
    """The line of a command that must refuse the file."""
    main, arguments = READERS[command](str(path))
    assert main([*arguments, "--out-dir" if command == "topn" else "--output-dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()
    return error


def metrics_frame():
    """With the columns that opd_measures reads too."""
    return planted_frame("learnable", 15, 12).with_columns(
        Hs=pl.col("base_Hs"), Ht=pl.col("base_Ht"), Coverlap=pl.col("base_Coverlap")
    )


@pytest.mark.parametrize("command", READERS)
def test_a_prompt_that_is_missing_is_one_line_in_every_command(command, tmp_path, capsys):
    frame = metrics_frame().with_columns(prompt_id=pl.when(pl.int_range(pl.len()) != 3).then("prompt_id"))
    write_parquet(tmp_path / "m.parquet", frame.to_arrow(), METADATA)
    assert "m.parquet: column prompt_id is empty at 1 of 180 rows" in refusal(
        command, tmp_path / "m.parquet", tmp_path, capsys
    )


@pytest.mark.parametrize("command", READERS)
def test_a_score_of_text_is_one_line_in_every_command(command, tmp_path, capsys):
    text = metrics_frame().with_columns(Hs=pl.lit("a"), base_Hs=pl.lit("a"))
    write_parquet(tmp_path / "m.parquet", text.to_arrow(), METADATA)
    assert "m.parquet: column" in (said := refusal(command, tmp_path / "m.parquet", tmp_path, capsys))
    assert "Hs is String, not a number" in said


@pytest.mark.parametrize("command", READERS)
def test_what_is_no_parquet_is_named_by_every_command(command, tmp_path, capsys):
    (tmp_path / "m.parquet").write_bytes(b"hello" * 100)
    assert "m.parquet: not a whole Parquet file" in refusal(command, tmp_path / "m.parquet", tmp_path, capsys)


@pytest.mark.parametrize("command", READERS)
def test_flipped_bits_are_met_by_every_command(command, tmp_path, capsys):
    """Floats are stored as they are where zstd finds nothing to pack: only a page's checksum knows."""
    path = tmp_path / "m.parquet"
    write_parquet(path, metrics_frame().to_arrow(), METADATA)
    for name in ("KLf", "base_KLf_union", "Hs", "base_Hs"):
        flip(path, name)
    assert "m.parquet: not a whole Parquet file" in (said := refusal(command, path, tmp_path, capsys))
    assert "CRC checksum" in said


def flip(path, column):
    """Change the last byte of a column's only page."""
    group = pq.read_metadata(path).row_group(0)
    chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == column)
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
    path.write_bytes(content)


def test_ratios_that_make_no_sense_are_refused(files, tmp_path, capsys):
    for ratios, message in (("0", "--ratios 0 is outside"), ("0.1,0.1", "once"), ("a", "numbers")):
        assert topn.main(["--input-root", str(files), "--out-dir", str(tmp_path), "--ratios", ratios]) == 2
        assert message in capsys.readouterr().err
