"""Tables of the analysis commands, read back."""

import numpy as np
import pytest
from fixed_context.report.tables import check_same_tokens, read_tables
from fixed_context.statistics.tables import write_tables


def write(directory, stem="topn", rows=({"dataset": "a", "gain": 1.5, "n": 3, "note": ""},)):
    write_tables(directory, stem, list(rows), "title")
    return directory


def test_numbers_come_back_as_they_were_and_empty_cells_as_nothing(tmp_path):
    rows = [{"gain": "absolute", "beta": 0.1 + 0.2, "tokens": 12, "exact": True, "note": "", "low": None}]
    tables = read_tables([write(tmp_path, "regression_summary", rows)])
    assert tables["regression_summary"] == rows
    assert tables.rows("regression_summary", gain="absolute") == rows
    assert tables.rows("regression_summary", gain="relative") == []
    assert tables.note("topn") == "not given: matched_fixed_context_topn writes topn.csv"


def test_a_note_that_looks_like_a_number_stays_text(tmp_path):
    tables = read_tables([write(tmp_path, rows=[{"dataset": "7", "gain": None, "note": "12"}])])
    assert tables["topn"] == [{"dataset": "7", "gain": None, "note": "12"}]


def test_one_dataset_is_taken_of_several(tmp_path):
    rows = [{"dataset": name, "gain": 1.0, "note": ""} for name in ("a", "b")]
    write(tmp_path, rows=rows)
    assert [row["dataset"] for row in read_tables([tmp_path], "b")["topn"]] == ["b"]
    with pytest.raises(ValueError, match="holds a, b; say which with --dataset NAME"):
        read_tables([tmp_path])
    with pytest.raises(ValueError, match=r"--dataset c: .* has a, b"):
        read_tables([tmp_path], "c")


def test_what_is_no_analysis_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such directory"):
        read_tables([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="no table of an analysis command there"):
        read_tables([tmp_path])
    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    with pytest.raises(ValueError, match=r"topn\.csv is in another of the directories too"):
        read_tables([one, two])


@pytest.mark.parametrize(
    "text", ["dataset,gain\na\n", "dataset,gain\na,1,2\n", 'dataset,gain\n"a,1\n', "dataset\n\xff\n"]
)
def test_a_broken_table_is_named(tmp_path, text):
    (tmp_path / "topn.csv").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"topn\.csv: (cannot be read as CSV|a line has)"):
        read_tables([tmp_path])


def test_an_analysis_of_another_file_is_refused(tmp_path):
    rows = [{"gain": "absolute", "mean": 0.1, "tokens": 100, "prompts": 5, "note": ""}]
    tables = read_tables([write(tmp_path, "gain_summary", rows)])
    check_same_tokens(tables, np.full(100, 0.1), 5)
    with pytest.raises(ValueError, match="is of 100 tokens of 5 prompts, the metrics have 99 of 5"):
        check_same_tokens(tables, np.full(99, 0.1), 5)
    with pytest.raises(ValueError, match=r"mean gain of 0\.1, the metrics have 0\.2: another student"):
        check_same_tokens(tables, np.full(100, 0.2), 5)
