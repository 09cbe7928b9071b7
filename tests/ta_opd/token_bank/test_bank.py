import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ta_opd.token_bank import bank as token_bank
from ta_opd.token_bank import formats as table_formats
from ta_opd.token_bank.bank import write_rollout
from ta_opd.token_bank.columns import token_columns

from ..rollouts import options, read, scored, table

QUADRANTS = {"Q1_highH_highD", "Q2_highH_lowD", "Q3_lowH_highD", "Q4_lowH_lowD"}


def test_what_is_not_known_is_null_and_never_zero(tmp_path):
    columns, _ = table(options())
    rows = read(write_rollout(tmp_path, 4, [columns], options()))
    unknown = {name for name, value in rows[0].items() if value is None}
    assert unknown <= {"Ht", "KLr", "Cprefix_ema", "Cmass_true", "target_teacher_rank"}
    for name in ("teacher_top1_id", "teacher_top1_prob", "teacher_topk_mass", "Ht_topk", "KLf_union", "Cmass", "CBC"):
        assert rows[1][name] is None, name
    for name in ("reach_t1", "target_in_teacher_topk", "target_teacher_rank", "D_norm", "C_norm", "sampled_reverse_kl"):
        assert rows[1][name] is None, name
    for name in ("student_top1_id", "student_top1_prob", "student_topk_mass", "Hs_topk", "reach_t1", "Coverlap"):
        assert rows[4][name] is None, name
    for name in ("target_in_student_topk", "target_student_rank", "H_norm", "tip_score", "budget_score"):
        assert rows[4][name] is None, name
    for row in rows:
        assert row["Ht"] is None and row["KLr"] is None and row["Cprefix_ema"] is None
        assert row["quadrant"] in QUADRANTS or row["KLf_union"] is None
        assert not any(isinstance(value, float) and not math.isfinite(value) for value in row.values())
    assert rows[1]["teacher_top_ids"] == rows[1]["teacher_top_logps"] == [None] * 4
    assert rows[6]["student_top_ids"][2] is None and rows[6]["student_top_logps"][2] is None


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_three_formats_carry_the_same_values(tmp_path, raw, variant):
    tables = {}
    for form in ("parquet", "csv", "jsonl"):
        o = options(token_bank_format=form, token_bank_raw_topk=raw, score_variant=variant)
        path = write_rollout(tmp_path / form, 4, [table(o)[0]], o)
        assert path.name == f"rollout_000004.{form}"
        tables[form] = read(path)
    assert tables["parquet"] == tables["jsonl"]
    for ours, text in zip(tables["parquet"], tables["csv"], strict=True):
        assert list(ours) == list(text)
        for name, value in ours.items():
            expected = "" if value is None else json.dumps(value) if isinstance(value, list) else str(value)
            assert text[name] == expected, name


def test_infinite_log_probs_are_null_in_every_format(tmp_path):
    columns, _ = table(options())
    columns["teacher_logp_sampled"][0] = -np.inf
    for form in ("parquet", "jsonl"):
        path = write_rollout(tmp_path / form, 0, [columns], options(token_bank_format=form))
        assert read(path)[0]["teacher_logp_sampled"] is None


def test_parquet_is_compressed_with_zstd_and_typed(tmp_path):
    path = write_rollout(tmp_path, 4, [table(options())[0]], options())
    metadata, schema = pq.ParquetFile(path).metadata, pq.read_schema(path)
    group = metadata.row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"ZSTD"}
    assert pa.types.is_integer(schema.field("token_id").type) and pa.types.is_floating(schema.field("KLf_union").type)
    assert schema.field("teacher_top_ids").type.list_size == 4
    assert schema.field("student_top_logps").type.list_size == 3
    empty = write_rollout(tmp_path, 5, [table(options(), lengths=(0,))[0]], options())
    assert pq.read_schema(empty).equals(schema)


def test_parquet_spends_no_dictionary_on_floats_and_next_to_nothing_on_constants(tmp_path):
    path = write_rollout(tmp_path, 4, [table(options())[0]], options())
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    for name in ("Hs", "KLf_union", "H_norm", "student_logp_sampled", "teacher_top_logps.list.element"):
        assert "BYTE_STREAM_SPLIT" in columns[name].encodings and not columns[name].has_dictionary_page, name
    for name in ("pair_id", "seed", "budget_ratio", "resp_len", "quadrant"):
        assert columns[name].has_dictionary_page, name


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("raw", [False, True])
def test_blocks_are_written_as_they_come_and_give_the_same_rows_and_summary(tmp_path, form, raw, monkeypatch):
    monkeypatch.setattr(table_formats, "ROW_GROUP", 4)
    o = options(token_bank_format=form, token_bank_raw_topk=raw)
    rollout, scores, selection = scored(o)
    written = [
        write_rollout(tmp_path / str(block), 4, token_columns(rollout, scores, selection, o, block), o)
        for block in (3, 100)
    ]
    assert read(written[0]) == read(written[1])
    ours, whole = (read(path.parent / "summary.csv")[0] for path in written)
    assert ours.keys() == whole.keys()
    for name, value in whole.items():
        close = name.startswith("mean") and float(ours[name]) == pytest.approx(float(value), rel=1e-6)
        assert close or ours[name] == value, name
    if form == "parquet":
        assert [pq.ParquetFile(path).metadata.num_row_groups for path in written] == [3, 1]


def test_a_table_without_a_block_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one block"):
        write_rollout(tmp_path, 0, [], options())


def test_a_rollout_written_again_replaces_its_table_and_its_summary_line(tmp_path):
    for rollout_id, ratio, seed in ((2, 0.3, 0), (1, 0.3, 1), (2, 0.5, 2)):
        o = options(budget_ratio=ratio)
        write_rollout(tmp_path, rollout_id, [table(o, rollout_id=rollout_id, seed=seed)[0]], o)
    lines = read(tmp_path / "summary.csv")
    assert [(line["rollout_id"], line["budget_ratio"]) for line in lines] == [("1", "0.3"), ("2", "0.5")]
    manifest = json.loads((tmp_path / "config.json").read_text())
    assert manifest["rollouts"] == {"rollout_000001.parquet": 8, "rollout_000002.parquet": 8}
    assert manifest["options"]["budget_ratio"] == 0.5 and manifest["columns"][0] == "schema_version"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"summary.csv", "config.json", "rollout_000001.parquet", "rollout_000002.parquet"}


def test_the_summary_line_counts_and_averages_the_valid_tokens(tmp_path):
    columns, selection = table(options(), unmasked=[1, 1, 0, 1, 1, 1, 0, 1])
    write_rollout(tmp_path, 4, [columns], options())
    (line,) = read(tmp_path / "summary.csv")
    assert (line["num_tokens"], line["num_valid_tokens"]) == ("8", "6")
    assert int(line["num_kept_tokens"]) == selection.kept == 2 and float(line["keep_ratio"]) == pytest.approx(2 / 6)
    assert float(line["mean_D_norm"]) == pytest.approx(np.nanmean(columns["D_norm"]))
    reached = columns["reach_t1"][[0, 1, 3, 4, 5, 7]].compressed()
    assert float(line["mean_reach_t1"]) == pytest.approx(reached.mean())
    assert int(line["q3_tokens"]) == columns["quadrant"].tolist().count("Q3_lowH_highD")


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("lengths", [(0, 0), ()])
def test_an_empty_rollout_is_written(tmp_path, form, lengths):
    o = options(token_bank_format=form)
    path = write_rollout(tmp_path, 0, [table(o, lengths=lengths)[0]], o)
    assert read(path) == []
    (line,) = read(tmp_path / "summary.csv")
    assert (line["num_tokens"], line["keep_ratio"], line["mean_H_norm"]) == ("0", "", "")


def test_a_crash_while_writing_leaves_the_old_table(tmp_path, monkeypatch):
    o = options(token_bank_format="csv")
    columns, _ = table(o)
    path = write_rollout(tmp_path, 4, [columns], o)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def crash(temporary, columns):
        temporary.write_text("schema_version,pair")
        raise OSError("disk full")

    monkeypatch.setattr(token_bank, "write_csv", crash)
    with pytest.raises(OSError, match="disk full"):
        write_rollout(tmp_path, 4, [columns], o)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before and path.exists()


def test_a_directory_of_another_format_or_schema_is_refused_untouched(tmp_path):
    columns, _ = table(options())
    write_rollout(tmp_path, 4, [columns], options())
    with pytest.raises(ValueError, match="format 'parquet'; this run writes 'csv'"):
        write_rollout(tmp_path, 5, [columns], options(token_bank_format="csv"))
    manifest = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(manifest | {"schema_version": 0}))
    with pytest.raises(ValueError, match="schema_version 0"):
        write_rollout(tmp_path, 5, [columns], options())
    assert not list(tmp_path.glob("rollout_000005*"))
