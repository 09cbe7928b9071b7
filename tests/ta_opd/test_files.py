import json
import math
import stat

import pytest
from ta_opd.files import atomic_path, write_json, write_text


def test_a_file_appears_whole_and_leaves_nothing_else_behind(tmp_path):
    path = tmp_path / "table.csv"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists() and temporary.parent == tmp_path
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_crash_while_writing_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_a_reader_of_the_old_file_keeps_reading_it_whole(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with path.open() as reader:
        write_text(path, "new and longer")
        assert reader.read() == "old"
    assert path.read_text() == "new and longer"


def test_others_may_read_the_file(tmp_path):
    write_text(tmp_path / "a.txt", "x")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


def test_a_missing_directory_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "none" / "a.txt"):
        pass


def test_text_is_utf8_and_replaces(tmp_path):
    path = str(tmp_path / "a.txt")
    write_text(path, "öld")
    write_text(path, "nΩw")
    assert (tmp_path / "a.txt").read_bytes().decode("utf-8") == "nΩw"


def test_json_refuses_what_json_cannot_say_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"n": 1, "missing": None, "name": "Ω"})
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON compliant"):
            write_json(path, {"n": bad})
    assert json.loads(path.read_text(encoding="utf-8")) == {"n": 1, "missing": None, "name": "Ω"}
    assert "Ω" in path.read_text(encoding="utf-8") and path.read_text().endswith("\n")
