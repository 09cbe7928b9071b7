"""What the merged table holds, and in what order."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ta_opd.token_bank.columns import SCHEMA_VERSION

from .bank_files import rows_of, write_bank, write_run

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import merge_token_bank
from token_bank_merge import merging, progress
from token_bank_merge.schema import RAW_LISTS, bank_types

SOURCES = ("source_file", "source_run")


def merge(*arguments):
    return merge_token_bank.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """Two runs of Parquet, one of CSV and one of JSONL, all with raw lists."""
    suite = tmp_path_factory.mktemp("a suite")
    write_run(suite, "teachability-0.10-seed1", rollouts=(0, 1, 10), seed=1)
    write_run(suite, "pure_opd-1.00-seed1", rollouts=(2,), seed=2, budget_mask="full")
    write_run(suite, "tip-0.10-seed1", rollouts=(0, 1), seed=3, budget_mask="tip", token_bank_format="csv")
    write_run(suite, "random-0.10-seed1", rollouts=(0,), seed=4, budget_mask="random", token_bank_format="jsonl")
    return suite


@pytest.fixture(scope="module")
def merged(suite, tmp_path_factory):
    output = tmp_path_factory.mktemp("merged") / "all.parquet"
    assert merge(suite, "--output", output) == 0
    return output


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_the_merged_rows_are_the_rollouts_rows_for_polars_too(tmp_path, form):
    for bank in (tmp_path / "parquet", tmp_path / form):
        write_bank(bank, rollouts=(7, 3), token_bank_format=bank.name)
    output = tmp_path / "merged.parquet"
    assert merge(tmp_path / form, "--output", output, "--no-source-cols") == 0
    expected = pl.concat(pl.read_parquet(tmp_path / "parquet" / f"rollout_{i:06d}.parquet") for i in (3, 7))
    found = pl.read_parquet(output)
    assert found.columns == expected.columns
    assert found.equals(expected, null_equal=True)
    assert pq.read_schema(output).equals(pq.read_schema(tmp_path / "parquet" / "rollout_000003.parquet"))


def test_rows_are_ordered_by_run_rollout_and_row_and_say_where_they_come_from(merged):
    rows = [(row["source_run"], row["rollout_id"], row["sample_ordinal"], row["tok_pos"]) for row in rows_of(merged)]
    assert rows == sorted(rows) and len(rows) == 7 * 8
    files = dict.fromkeys(row["source_file"] for row in rows_of(merged))
    assert list(files)[:3] == [
        "pure_opd-1.00-seed1/token_bank/rollout_000002.parquet",
        "random-0.10-seed1/token_bank/rollout_000000.jsonl",
        "teachability-0.10-seed1/token_bank/rollout_000000.parquet",
    ]


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_inputs_in_any_order_and_named_twice_give_the_same_file(suite, merged, tmp_path_factory, data):
    files = sorted((suite / "runs").glob("*/token_bank/rollout_*"))
    runs = sorted((suite / "runs").iterdir())
    pattern = suite / "runs" / "*" / "token_bank" / "rollout_*"
    inputs = data.draw(st.sampled_from([files, runs, [run / "token_bank" for run in runs], [pattern]]))
    inputs = data.draw(st.permutations([*inputs, *data.draw(st.lists(st.sampled_from([suite, *files]), max_size=2))]))
    output = tmp_path_factory.mktemp("again") / "all.parquet"
    assert merge(*inputs, "--output", output) == 0
    assert output.read_bytes() == merged.read_bytes()
    assert Path(f"{output}.manifest.json").read_bytes() == Path(f"{merged}.manifest.json").read_bytes()


def test_raw_lists_and_source_columns_can_be_left_out(suite, merged, tmp_path):
    output = tmp_path / "narrow.parquet"
    assert merge(suite, "--output", output, "--drop-raw-topk", "--no-source-cols") == 0
    whole, narrow = pl.read_parquet(merged), pl.read_parquet(output)
    assert narrow.equals(whole.drop(*RAW_LISTS, *SOURCES), null_equal=True)


def test_the_manifest_tells_settings_and_where_the_runs_differ(merged, suite):
    manifest = json.loads(Path(f"{merged}.manifest.json").read_text())
    assert manifest["differing_options"].keys() == {"budget_mask", "budget_ratio"}
    assert manifest["differing_options"]["budget_ratio"]["pure_opd-1.00-seed1"] == 1.0
    run = manifest["runs"]["teachability-0.10-seed1"]
    assert run["rollouts"] == {f"rollout_{i:06d}.parquet": 8 for i in (0, 1, 10)}
    assert run["directory"] == str(suite / "runs" / "teachability-0.10-seed1" / "token_bank")
    assert run["options"]["topk_metrics_k"] == 3
    assert (manifest["rows"], manifest["skipped"]) == (56, [])


def test_runs_of_one_name_are_told_apart_by_their_suites(tmp_path):
    for number, tag in enumerate(("one", "two")):
        write_run(tmp_path / tag, "tip-0.10-seed1", seed=number, budget_ratio=0.1 * (number + 1))
    output = tmp_path / "merged.parquet"
    assert merge(tmp_path / "one", tmp_path / "two", "--output", output) == 0
    names = set(pl.read_parquet(output)["source_run"].cast(pl.String))
    assert names == {"one/runs/tip-0.10-seed1", "two/runs/tip-0.10-seed1"}


def test_the_embedded_engines_banks_are_found_in_its_output_and_in_a_suite(tmp_path):
    write_bank(tmp_path / "engine" / "runs" / "tip-0.10-seed0" / "token_bank")
    for number, directory in enumerate((tmp_path, tmp_path / "engine")):
        assert merge(directory, "--output", tmp_path / f"{number}.parquet") == 0
    assert (tmp_path / "0.parquet").read_bytes() == (tmp_path / "1.parquet").read_bytes()


def test_row_groups_are_filled_whatever_the_rollouts_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr(merging, "ROW_GROUP", 5)
    write_bank(tmp_path / "bank", rollouts=range(3))
    assert merge(tmp_path / "bank", "--output", tmp_path / "merged.parquet") == 0
    metadata = pq.ParquetFile(tmp_path / "merged.parquet").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [5, 5, 5, 5, 4]
    assert [row["rollout_id"] for row in rows_of(tmp_path / "merged.parquet")] == [0] * 8 + [1] * 8 + [2] * 8


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_a_rollout_without_a_row_adds_none_and_is_counted(tmp_path, form):
    write_bank(tmp_path / "bank", rollouts=(0,), token_bank_format=form)
    write_bank(tmp_path / "bank", rollouts=(1,), lengths=(0,), token_bank_format=form)
    assert merge(tmp_path / "bank", "--output", tmp_path / "merged.parquet") == 0
    manifest = json.loads((tmp_path / "merged.parquet.manifest.json").read_text())
    assert manifest["runs"]["bank"]["rollouts"] == {f"rollout_000000.{form}": 8, f"rollout_000001.{form}": 0}


def test_the_types_that_text_is_read_with_are_those_of_the_banks_parquet(tmp_path):
    write_bank(tmp_path, rollouts=(0,))
    schema = pq.read_schema(tmp_path / "rollout_000000.parquet")
    types = {f.name: f.type.value_type if pa.types.is_fixed_size_list(f.type) else f.type for f in schema}
    assert bank_types() == types


def test_a_failed_write_leaves_the_older_table_and_nothing_else(suite, tmp_path, monkeypatch, capsys):
    output = tmp_path / "merged.parquet"
    output.write_text("older")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging.pq.ParquetWriter, "write_table", full)
    assert merge(suite, "--output", output) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert output.read_text() == "older" and [path.name for path in tmp_path.iterdir()] == ["merged.parquet"]


def test_the_bar_shows_on_a_terminal_only_and_only_after_a_while(monkeypatch):
    from rich.console import Console

    for terminal, seconds, shown in ((True, 0.0, True), (False, 0.0, False), (True, 60.0, False)):
        monkeypatch.setattr(progress, "SECONDS_BEFORE", seconds)
        console = Console(file=io.StringIO(), force_terminal=terminal, record=True)
        with progress.LateProgress("merging", 2, console) as bar:
            bar.advance(1)
            bar.advance(1)
        assert ("merging" in console.export_text()) is shown


def synthetic_bank(bank, rollouts, rows=131_072, columns=24):
    """Wide files of random numbers: rows x columns x 8 bytes each, which nothing compresses."""
    bank.mkdir()
    generator = np.random.default_rng(0)
    for rollout_id in range(rollouts):
        table = pa.table(
            {
                "schema_version": np.full(rows, SCHEMA_VERSION, np.int32),
                "rollout_id": np.full(rows, rollout_id),
                "sample_index": np.arange(rows),
                **{f"x{i}": generator.random(rows) for i in range(columns)},
            }
        )
        pq.write_table(table, bank / f"rollout_{rollout_id:06d}.parquet", use_dictionary=False)


GROWTH = """
import sys
from pathlib import Path
sys.path.insert(0, {tools!r})
import merge_token_bank
for name in ("small", "large"):
    assert merge_token_bank.main([f"{directory}/{{name}}", "--output", f"{directory}/{{name}}.parquet"]) == 0
    # Not ru_maxrss, which begins with that of the process that started this one.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print("peak", int(peak.split()[1]) // 1024)
"""


def test_memory_does_not_grow_with_the_bank(tmp_path):
    synthetic_bank(tmp_path / "small", 1)
    synthetic_bank(tmp_path / "large", 5)
    program = GROWTH.format(tools=str(Path(merge_token_bank.__file__).parent), directory=tmp_path)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    small, large = (int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("peak"))
    assert large - small < 60, (small, large)  # MiB; four more rollouts are 96
    assert large < 700, large
