"""--null is the student before training scored twice, --independent another student: same teacher, K and tokens."""

import json

import numpy as np
import polars as pl
import pytest
from fixed_context.commands.companions import independent_disagreement, null_gains
from fixed_context.commands.gain import main as gain_main
from fixed_context.schema import write_parquet
from fixed_context.statistics.gain import load_gains
from fixed_context.statistics.settings import Columns, Settings

from ..statistics.planted import planted_frame

TOLD = {
    "schema_version": 1, "topk": 16, "teacher_fingerprint": "teacher", "student_fingerprint": "trained",
    "baseline": {"student_fingerprint": "first"}, "dtype": "float32", "vocabulary": 500,
}  # fmt: skip
NULL, OTHER = TOLD | {"student_fingerprint": "first"}, TOLD | {"student_fingerprint": "other", "baseline": {}}


@pytest.fixture
def gains(tmp_path):
    """The path of a gain file and a function that writes another file beside it."""
    write_parquet(tmp_path / "gain.parquet", planted_frame("learnable", 10, 8).to_arrow(), TOLD)

    def beside(told, frame=None):
        frame = planted_frame("zero", 10, 8) if frame is None else frame
        write_parquet(tmp_path / "beside.parquet", frame.to_arrow(), told)
        return tmp_path / "beside.parquet"

    return tmp_path / "gain.parquet", beside


def read(gains, path, reader):
    table = load_gains(gains[0])
    if reader is null_gains:
        return null_gains(path, gains[0], table, Columns(), Settings())
    return independent_disagreement(path, gains[0], table, Columns(d="D"))


def other_student(frame=None):
    """Metrics of another student, its D in the column D, in another order."""
    frame = planted_frame("zero", 10, 8) if frame is None else frame
    return frame.with_columns(D=pl.int_range(pl.len()).cast(pl.Float32)).sample(fraction=1, shuffle=True, seed=1)


def test_the_student_before_training_scored_twice_is_a_null(gains):
    null, notes = read(gains, gains[1](NULL), null_gains)
    assert len(null) == 80 and not null.gain["absolute"].any() and notes == []


def test_d_of_another_student_comes_in_the_tables_order(gains):
    d, notes = read(gains, gains[1](OTHER, other_student()), independent_disagreement)
    np.testing.assert_array_equal(d, np.arange(80))
    assert notes == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student_fingerprint": "trained"}, "'first' before and 'trained' after: not one student scored twice"),
        (
            {"student_fingerprint": "other", "baseline": {"student_fingerprint": "other"}},
            "student_fingerprint 'other' there, 'first' before training here",
        ),
        ({"teacher_fingerprint": "another"}, "teacher_fingerprint 'another' there, 'teacher' here"),
        ({"topk": 8}, "topk 8 there, 16 here"),
    ],
)
def test_a_null_of_other_models_or_another_k_is_refused(gains, changes, message):
    with pytest.raises(ValueError, match=f"--null .*beside.parquet: .*{message}"):
        read(gains, gains[1](NULL | changes), null_gains)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student_fingerprint": "first"}, "its student 'first' is the one before training"),
        ({"student_fingerprint": "trained"}, "its student 'trained' is the one after training"),
        ({"teacher_fingerprint": "another"}, "teacher_fingerprint 'another' there, 'teacher' here"),
        ({"topk": 8}, "topk 8 there, 16 here"),
    ],
)
def test_an_independent_student_that_is_not_or_scores_of_another_kind_are_refused(gains, changes, message):
    with pytest.raises(ValueError, match=f"--independent .*beside.parquet: {message}"):
        read(gains, gains[1](OTHER | changes, other_student()), independent_disagreement)


@pytest.mark.parametrize("reader", [null_gains, independent_disagreement])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.head(3), "77 of 80 tokens are not in that file"),
        (lambda frame: frame.with_columns(pl.col("token_id") + 1), "80 of 80 tokens are another token"),
        (lambda frame: frame.with_columns(loss_mask=pl.col("tok_pos") % 2), "40 of 80 tokens have another loss_mask"),
    ],
)
def test_other_tokens_are_refused(gains, reader, change, message):
    told, frame = (NULL, planted_frame("zero", 10, 8)) if reader is null_gains else (OTHER, other_student())
    with pytest.raises(ValueError, match=f"beside.parquet: {message}"):
        read(gains, gains[1](told, change(frame)), reader)


def test_what_files_do_not_tell_is_said_in_the_summary(gains, tmp_path):
    bare = gains[1]({"schema_version": 1}, other_student().drop("token_id").rename({"D": "KLf_union"}))
    flags = ["--bootstrap", "20", "--output-dir", str(tmp_path / "out")]
    assert gain_main(["--input", str(gains[0]), "--independent", str(bare), *flags]) == 0
    notes = json.loads((tmp_path / "out" / "summary.json").read_text())["notes"]
    untold = "student_fingerprint, teacher_fingerprint, token_id, topk"
    assert f"--independent beside.parquet: not compared, the files do not tell: {untold}" in notes
