"""What is not merged: broken files, rollouts that are there twice, tables that differ."""

import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from .bank_files import edit_json, rows_of, write_bank, write_run

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import merge_token_bank


@pytest.fixture
def merge(capsys):
    def run(*arguments):
        code = merge_token_bank.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_a_page(path):
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)


def left_over(path):
    path.rename(path.with_name(f".{path.name}.x1y2z3.tmp"))


def edit_rollout_id(path):
    table = pq.read_table(path)
    place = table.schema.get_field_index("rollout_id")
    pq.write_table(table.set_column(place, "rollout_id", pa.array([9] * len(table))), path)


def last_row_off(path):
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")


def drop_a_field(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[2] = lines[2].partition(",")[2] if path.suffix == ".csv" else "{}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


BROKEN = {
    "cut": ("parquet", cut, "cut off or not Parquet"),
    "half": ("parquet", cut_in_half, "cut off or not Parquet"),
    "empty": ("parquet", lambda path: path.write_bytes(b""), "empty file"),
    "text": ("parquet", lambda path: path.write_text("no Parquet at all, but text"), "cut off or not Parquet"),
    "page": ("parquet", spoil_a_page, "not readable as parquet"),
    "temporary": ("parquet", left_over, "left by a killed writer"),
    "gone": ("parquet", Path.unlink, "listed in config.json and not there"),
    "other rollout": ("parquet", edit_rollout_id, "has rows of rollout 9"),
    "name": ("parquet", lambda path: path.rename(path.with_name("rollout_1.parquet")), "the name is not"),
    "csv cut": ("csv", cut, "cut off: the last line has no end"),
    "csv empty": ("csv", lambda path: path.write_bytes(b""), "empty file"),
    "csv rows": ("csv", last_row_off, "7 rows, and config.json says 8"),
    "csv field": ("csv", drop_a_field, "not readable as csv"),
    "jsonl cut": ("jsonl", cut, "cut off: the last line has no end"),
    "jsonl empty": ("jsonl", lambda path: path.write_bytes(b""), "empty file"),
    "jsonl rows": ("jsonl", last_row_off, "7 rows, and config.json says 8"),
    "jsonl field": ("jsonl", drop_a_field, "line 3 has other keys than line 1"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_with_its_reason_and_skipped_only_when_told(tmp_path, merge, case):
    form, spoil, reason = BROKEN[case]
    write_bank(tmp_path / "bank", rollouts=(0, 1, 2), token_bank_format=form)
    spoil(tmp_path / "bank" / f"rollout_000001.{form}")
    output = tmp_path / "merged.parquet"
    code, out, err = merge(tmp_path / "bank", "--output", output)
    assert (code, out) == (2, "")
    assert reason in err and "rollout_" in err and "--skip-broken" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank"]
    code, out, err = merge(tmp_path / "bank", "--output", output, "--skip-broken")
    assert code == 0 and reason in err
    assert "16 tokens of 2 rollouts" in out and " skipped" in out
    assert [row["rollout_id"] for row in rows_of(output)] == [0] * 8 + [2] * 8
    skipped = json.loads(Path(f"{output}.manifest.json").read_text())["skipped"]
    assert any(reason in each["reason"] for each in skipped)


def test_every_broken_file_is_reported_at_once(tmp_path, merge):
    write_bank(tmp_path / "bank", rollouts=range(4))
    for number in (1, 3):
        cut(tmp_path / "bank" / f"rollout_{number:06d}.parquet")
    code, _, err = merge(tmp_path / "bank", "--output", tmp_path / "m.parquet")
    assert code == 2 and "rollout_000001" in err and "rollout_000003" in err and "2 broken files" in err


def test_nothing_is_written_when_every_file_is_broken(tmp_path, merge):
    write_bank(tmp_path / "bank", rollouts=(0,))
    cut(tmp_path / "bank" / "rollout_000000.parquet")
    code, _, err = merge(tmp_path / "bank", "--output", tmp_path / "m.parquet", "--skip-broken")
    assert code == 2 and "no rollout is left" in err and not (tmp_path / "m.parquet").exists()


def test_a_left_over_whose_rollout_was_written_again_does_no_harm(tmp_path, merge):
    write_bank(tmp_path / "bank")
    (tmp_path / "bank" / ".rollout_000001.parquet.abc.tmp").write_bytes(b"half")
    code, out, err = merge(tmp_path / "bank", "--output", tmp_path / "m.parquet")
    assert code == 0 and "nothing is lost" in err and "16 tokens of 2 rollouts" in out


def test_a_broken_config_is_a_broken_file(tmp_path, merge):
    write_bank(tmp_path / "bank")
    cut(tmp_path / "bank" / "config.json")
    code, _, err = merge(tmp_path / "bank", "--output", tmp_path / "m.parquet")
    assert code == 2 and "config.json: not readable as JSON" in err
    code, out, _ = merge(tmp_path / "bank", "--output", tmp_path / "m.parquet", "--skip-broken")
    assert code == 0 and "16 tokens" in out


def test_one_rollout_in_two_formats_is_refused(tmp_path, merge):
    write_bank(tmp_path / "bank", rollouts=(1,))
    write_bank(tmp_path / "other", rollouts=(1,), token_bank_format="csv")
    shutil.copy(tmp_path / "other" / "rollout_000001.csv", tmp_path / "bank")
    code, _, err = merge(tmp_path / "bank", "--output", tmp_path / "m.parquet")
    assert code == 2 and "in two formats" in err
    assert "rollout_000001.csv" in err and "rollout_000001.parquet" in err


def test_a_copy_of_a_run_is_refused_under_any_name(tmp_path, merge):
    bank = write_run(tmp_path, "tip-0.10-seed1")
    shutil.copytree(bank.parent, tmp_path / "runs" / "copied")
    code, _, err = merge(tmp_path, "--output", tmp_path / "m.parquet")
    assert code == 2 and "the same to the byte" in err and "copied" in err


def test_a_resumed_run_in_another_place_is_refused_and_another_run_is_not(tmp_path, merge):
    write_run(tmp_path / "one", "tip-0.10-seed1", rollouts=(0, 1), seed=1)
    write_run(tmp_path / "two", "tip-0.10-seed1", rollouts=(1, 2), seed=2)
    arguments = (tmp_path / "one", tmp_path / "two", "--output", tmp_path / "m.parquet")
    code, _, err = merge(*arguments)
    assert code == 2 and "rollout 1 is there twice" in err and "two runs of one name" in err
    edit_json(
        tmp_path / "two/runs/tip-0.10-seed1/token_bank/config.json", lambda config: config["options"].update(loss="jsd")
    )
    assert merge(*arguments)[0] == 0


def test_a_link_to_a_bank_is_the_bank(tmp_path, merge):
    write_bank(tmp_path / "bank")
    (tmp_path / "link").symlink_to(tmp_path / "bank")
    code, out, _ = merge(tmp_path / "bank", tmp_path / "link", "--output", tmp_path / "m.parquet")
    assert code == 0 and "16 tokens of 2 rollouts of 1 runs" in out


def test_columns_that_differ_are_named_and_filled_only_when_told(tmp_path, merge):
    write_bank(tmp_path / "a", rollouts=(0,), token_bank_raw_topk=False)
    write_bank(tmp_path / "b", rollouts=(1,))
    arguments = (tmp_path / "a", tmp_path / "b", "--output", tmp_path / "m.parquet")
    code, _, err = merge(*arguments)
    assert code == 2 and "student_top_ids" in err and "teacher_top_logps" in err
    assert "--drop-raw-topk" in err and "--fill-missing" in err
    assert merge(*arguments, "--fill-missing")[0] == 0
    lists = [row["student_top_ids"] for row in rows_of(tmp_path / "m.parquet")]
    assert lists[:8] == [None] * 8 and all(len(each) == 3 for each in lists[8:])
    assert merge(*arguments, "--drop-raw-topk")[0] == 0


def test_lists_of_different_k_are_refused_and_can_be_left_out(tmp_path, merge):
    for name in ("a", "b"):
        write_bank(tmp_path / name, rollouts=(0,))
    path = tmp_path / "b" / "rollout_000000.parquet"
    table = pq.read_table(path)
    short = pa.array([each[:2] for each in table["student_top_ids"].to_pylist()], pa.list_(pa.int32(), 2))
    pq.write_table(table.set_column(table.schema.get_field_index("student_top_ids"), "student_top_ids", short), path)
    arguments = (tmp_path / "a", tmp_path / "b", "--output", tmp_path / "m.parquet")
    code, _, err = merge(*arguments, "--fill-missing")
    assert code == 2 and "student_top_ids is fixed_size_list" in err and "[2]" in err and "[3]" in err
    assert merge(*arguments, "--drop-raw-topk")[0] == 0


@pytest.mark.parametrize(("version", "flags", "said"), [(2, ("--fill-missing",), "up to 1"), (0, (), "--fill-missing")])
def test_other_schema_versions_are_refused(tmp_path, merge, version, flags, said):
    write_bank(tmp_path / "bank", rollouts=(0,))
    path = tmp_path / "bank" / "rollout_000000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(0, "schema_version", pa.array([version] * len(table), pa.int32())), path)
    code, _, err = merge(tmp_path / "bank", "--output", tmp_path / "m.parquet", *flags)
    assert code == 2 and f"schema version {version}" in err and said in err
    if version == 0:
        assert merge(tmp_path / "bank", "--output", tmp_path / "m.parquet", "--fill-missing")[0] == 0


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (["nowhere"], "no such file or directory"),
        (["nowhere/*.parquet"], "nothing matches"),
        (["."], "no token bank"),
    ],
)
def test_inputs_that_lead_nowhere_are_refused(tmp_path, merge, monkeypatch, inputs, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = merge(*inputs, "--output", "m.parquet")
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1


def test_the_output_is_parquet_and_no_input(tmp_path, merge):
    write_bank(tmp_path / "bank")
    for name, said in (("rollout_000000.parquet", "is one of the inputs"), ("m.csv", "does not end in .parquet")):
        code, _, err = merge(tmp_path / "bank", "--output", tmp_path / "bank" / name)
        assert code == 2 and said in err
    assert len(rows_of(tmp_path / "bank" / "rollout_000000.parquet")) == 8


def test_a_merged_table_is_not_merged_again(tmp_path, merge):
    write_bank(tmp_path / "bank", rollouts=(0,))
    assert merge(tmp_path / "bank", "--output", tmp_path / "again" / "rollout_000000.parquet")[0] == 0
    code, _, err = merge(tmp_path / "again" / "rollout_000000.parquet", "--output", tmp_path / "m.parquet")
    assert code == 2 and "it is merged already" in err
