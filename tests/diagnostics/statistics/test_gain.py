"""Files in: what is missing is named, what is masked or unknown is left out and counted, joins are one to one."""

import numpy as np
import polars as pl
import pytest
from fixed_context.schema import write_parquet
from fixed_context.statistics.analysis import analyse
from fixed_context.statistics.gain import gain_measures, gain_table, load_gains
from fixed_context.statistics.provenance import Models
from fixed_context.statistics.settings import Columns, Settings
from fixed_context.statistics.unit_scores import unit_scores

from .planted import planted_frame

METADATA = {"schema_version": 1, "topk": 16, "teacher_fingerprint": "t", "dtype": "float32", "vocabulary": 500}


@pytest.fixture
def pair(tmp_path):
    """A before and an after file, and the gain file that holds both."""
    joined = planted_frame("learnable", 12, 8)
    base = {c: c.removeprefix("base_") for c in joined.columns if c.startswith("base_")}
    identity = [c for c in joined.columns if not c.startswith(("base_", "G_")) and c not in ("KLf", "reach_t1")]
    before = joined.select([*identity, *base]).rename(base)
    after = before.with_columns(KLf=joined["KLf"], reach_t1=joined["reach_t1"]).sample(fraction=1, shuffle=True, seed=0)
    for name, frame in (("joined", joined), ("before", before), ("after", after)):
        write_parquet(tmp_path / f"{name}.parquet", frame.to_arrow(), METADATA)
    return tmp_path


def test_two_files_and_one_with_a_baseline_give_the_same_gains(pair):
    one = load_gains(pair / "joined.parquet")
    two = load_gains(before=pair / "before.parquet", after=pair / "after.parquet")
    order = np.lexsort((two.tok_pos, two.context))
    np.testing.assert_allclose(two.gain["absolute"][order], one.gain["absolute"], atol=1e-12)
    np.testing.assert_allclose(two.disagreement[8][order], one.disagreement[8])
    assert one.ks == two.ks == (8, 16, 32) and one.topk == 16


def test_a_token_without_a_partner_is_refused(pair):
    short = pl.read_parquet(pair / "after.parquet").head(90)
    write_parquet(pair / "short.parquet", short.to_arrow(), METADATA)
    with pytest.raises(ValueError, match="6 of"):
        load_gains(before=pair / "before.parquet", after=pair / "short.parquet")


def test_another_token_at_the_same_place_is_refused(pair):
    other = pl.read_parquet(pair / "after.parquet").with_columns(pl.col("token_id") + 1)
    write_parquet(pair / "other.parquet", other.to_arrow(), METADATA)
    with pytest.raises(ValueError, match="another token"):
        load_gains(before=pair / "before.parquet", after=pair / "other.parquet")


def test_scores_of_another_teacher_are_refused(pair):
    other = METADATA | {"teacher_fingerprint": "another"}
    write_parquet(pair / "other.parquet", pl.read_parquet(pair / "after.parquet").to_arrow(), other)
    with pytest.raises(ValueError, match="teacher_fingerprint"):
        load_gains(before=pair / "before.parquet", after=pair / "other.parquet")


def test_scores_at_another_k_are_refused_with_both_ks(pair):
    write_parquet(pair / "other.parquet", pl.read_parquet(pair / "before.parquet").to_arrow(), METADATA | {"topk": 8})
    with pytest.raises(ValueError, match=r"--before .*other.parquet: topk 8 there, 16 here"):
        load_gains(before=pair / "other.parquet", after=pair / "after.parquet")


def test_a_token_that_counts_in_one_file_alone_is_refused(pair):
    other = pl.read_parquet(pair / "before.parquet").with_columns(
        loss_mask=pl.when(pl.col("tok_pos") == 2).then(0).otherwise(1).cast(pl.Int8)
    )
    write_parquet(pair / "other.parquet", other.to_arrow(), METADATA)
    with pytest.raises(ValueError, match="12 of 96 tokens have another loss_mask in the baseline, first"):
        load_gains(before=pair / "other.parquet", after=pair / "after.parquet")


def test_the_models_of_both_files_are_told(pair):
    told = {"student_fingerprint": "new", "baseline": {"student_fingerprint": "old"}}
    write_parquet(pair / "joined.parquet", pl.read_parquet(pair / "joined.parquet").to_arrow(), METADATA | told)
    for name, fingerprint in (("before", "old"), ("after", "new")):
        frame = pl.read_parquet(pair / f"{name}.parquet")
        write_parquet(pair / f"{name}.parquet", frame.to_arrow(), METADATA | {"student_fingerprint": fingerprint})
    one, two = load_gains(pair / "joined.parquet"), load_gains(None, pair / "before.parquet", pair / "after.parquet")
    assert one.models == two.models == Models("new", "old", "t", 16)


@pytest.mark.parametrize("paths", [{}, {"before": "x"}, {"input_path": "x", "before": "x", "after": "y"}])
def test_neither_or_both_ways_of_giving_the_files_is_refused(paths):
    with pytest.raises(ValueError, match="--input FILE, or both"):
        load_gains(**paths)


def test_missing_columns_are_all_named_with_what_to_do():
    frame = planted_frame("learnable", 5, 5).drop("G_KLf", "base_Ht")
    with pytest.raises(ValueError, match=r"missing columns base_Ht, G_KLf; score with --baseline-metrics"):
        gain_table(frame, 16)


def test_a_column_of_text_and_one_without_a_number_are_named():
    frame = planted_frame("learnable", 5, 5)
    with pytest.raises(ValueError, match="base_Cmass_exact holds no number"):
        gain_table(frame.with_columns(base_Cmass_exact=pl.lit(None, pl.Float64)), 16)
    with pytest.raises(ValueError, match="base_Hs is String"):
        gain_table(frame.with_columns(base_Hs=pl.lit("x")), 16)


@pytest.mark.parametrize("column", ["Hs", "Ht", "KLf_union", "Cmass_exact"])
def test_a_score_after_training_never_stands_in_for_the_one_before(column):
    frame = planted_frame("learnable", 5, 5).rename({f"base_{column}": column})
    with pytest.raises(ValueError, match=f"missing column base_{column}$"):
        gain_table(frame, 16)


def test_support_after_training_is_no_definition_of_support():
    frame = planted_frame("learnable", 5, 5)
    assert ("bhattacharyya", 16) in gain_table(frame, 16).support
    assert ("bhattacharyya", 16) not in gain_table(frame.rename({"base_CBC": "CBC"}), 16).support


def test_a_gain_that_is_not_the_fall_of_its_divergence_is_refused_with_the_first_token():
    frame = planted_frame("learnable", 5, 5)
    wrong = frame.with_columns(G_KLf=pl.when(pl.int_range(pl.len()) >= 7).then(-pl.col("G_KLf")).otherwise("G_KLf"))
    with pytest.raises(ValueError, match=r"G_KLf is not base_KLf - KLf at 18 of 25 tokens, first \(0{15}1, 2\): "):
        gain_table(wrong, 16)


def test_a_gain_that_misses_the_fall_by_rounding_is_taken():
    frame = planted_frame("learnable", 20, 20).with_columns(pl.col("KLf", "base_KLf") + 30)
    assert len(gain_table(frame.with_columns(pl.col("KLf", "base_KLf", "G_KLf").cast(pl.Float32)), 16)) == 400


@pytest.mark.parametrize("column", ["KLf", "base_KLf"])
@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_divergence_that_is_not_known_beside_a_gain_is_named_with_how_many(column, value):
    frame = planted_frame("learnable", 5, 5)
    hole = pl.when(pl.int_range(pl.len()) < 2).then(pl.lit(value, pl.Float64)).otherwise(column)
    with pytest.raises(ValueError, match=f"column {column} has no number at 2 of 25 tokens with G_KLf"):
        gain_table(frame.with_columns(hole.alias(column)), 16)


def with_holes(frame, share, columns=("base_KLf_union_k8",)):
    holes = np.random.default_rng(0).random(len(frame)) < share
    return frame.with_columns(
        pl.when(pl.Series(~holes)).then(c).otherwise(float("nan")).alias(c) for c in columns
    ), ~holes


def test_tokens_without_scores_at_an_extra_k_are_counted_said_and_left_out_of_its_table():
    frame, known = with_holes(planted_frame("learnable", 40, 20), 0.2)
    table, part = gain_table(frame, 16), gain_table(frame.filter(pl.Series(known)), 16)
    missing = int((~known).sum())
    assert table.counts["unknown_at_k8"] == missing
    assert table.notes == (f"K = 8: D or C is not known at {missing} of 800 tokens, which its numbers leave out",)
    at_8 = table.at(8)
    for name in ("entropy", "prompt", "before", "position"):
        np.testing.assert_array_equal(getattr(at_8, name), getattr(part, name))
    np.testing.assert_array_equal(at_8.support["mass", 8], part.support["mass", 8])
    assert table.at(16) is table and len(table) == 800


def test_an_extra_k_is_analysed_on_the_tokens_that_have_its_scores():
    frame, known = with_holes(planted_frame("learnable", 40, 20), 0.2)
    tables = gain_table(frame, 16), gain_table(frame.filter(pl.Series(known)), 16)
    whole, alone = (analyse(table, Settings(bootstrap=20)) for table in tables)
    for name, value in (("regression", "beta"), ("q3", "difference")):
        at_8 = [[r for r in getattr(a, name) if r["k"] == 8 and r["gain"] == "absolute"] for a in (whole, alone)]
        found, expected = ([r[value] for r in rows] for rows in at_8)
        assert found == pytest.approx(expected) and found[0] is not None


def test_an_extra_k_without_any_score_is_left_out_and_said():
    frame, _ = with_holes(planted_frame("learnable", 10, 8), 2, ("base_KLf_union_k8", "base_Cmass_exact_k32"))
    table = gain_table(frame, 16)
    assert table.ks == (16,) and table.counts["unknown_at_k8"] == table.counts["unknown_at_k32"] == 80
    assert table.notes[0] == "K = 8: D or C is not known at 80 of 80 tokens, so there is nothing of this K"
    assert {row["k"] for row in analyse(table, Settings(bootstrap=20)).regression} == {16}


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("base_Hs", "column base_Hs is Float64, not a name"),
        ("lists", r"column lists is List\(Int64\), not a name"),
        ("holes", "column holes is empty at 1 of 25 rows"),
    ],
)
def test_a_cluster_is_a_name_that_every_token_has(column, message):
    frame = planted_frame("learnable", 5, 5).with_columns(
        lists=pl.concat_list(pl.int_range(pl.len()), 1),
        holes=pl.when(pl.int_range(pl.len()) != 3).then("prompt_id"),
    )
    with pytest.raises(ValueError, match=message):
        gain_table(frame, 16, Columns(group=column))


def test_masked_tokens_and_nan_are_left_out_and_counted():
    frame = planted_frame("learnable", 5, 6)
    frame = frame.with_columns(
        loss_mask=pl.when(pl.int_range(pl.len()) < 4).then(0).otherwise(1),
        base_Hs=pl.when(pl.int_range(pl.len()) == 10).then(float("nan")).otherwise(pl.col("base_Hs")),
        **{
            name: pl.when(pl.int_range(pl.len()) == 11).then(None).otherwise(pl.col(name)).alias(name)
            for name in ("G_KLf", "KLf")
        },
    )
    table = gain_table(frame, 16)
    assert len(table) == 24
    assert table.counts["masked"] == 4 and table.counts["without_base_Hs"] == 1 and table.counts["without_G_KLf"] == 1
    assert table.notes == (
        "1 of 26 tokens are left out: no number in G_KLf",
        "1 of 26 tokens are left out: no number in base_Hs",
    )


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_gain_that_is_lost_though_both_divergences_are_known_is_refused(value):
    hole = pl.when(pl.int_range(pl.len()) == 3).then(pl.lit(value, pl.Float64)).otherwise("G_KLf")
    with pytest.raises(ValueError, match="G_KLf is no number at 1 tokens of which base_KLf and KLf are known"):
        gain_table(planted_frame("learnable", 5, 5).with_columns(hole.alias("G_KLf")), 16)


@pytest.mark.parametrize(
    ("column", "factor", "what"),
    [
        ("base_Hs", -1, "0 or more"),
        ("KLf", -1, "0 or more"),
        ("base_KLf_union_k8", -1, "0 or more"),
        ("base_Cmass_exact", 3, r"in 0\.\.1"),
        ("base_Cjaccard", -1, r"in 0\.\.1"),
    ],
)
def test_a_score_that_no_score_can_be_is_refused(column, factor, what):
    frame = planted_frame("learnable", 5, 5, ks=(8, 16))
    with pytest.raises(ValueError, match=f"column {column} is .* at the first of [0-9]+ tokens; it must be {what}"):
        gain_table(frame.with_columns(pl.col(column) * factor), 16)


def test_other_columns_can_stand_for_the_usual_ones():
    table = gain_table(planted_frame("learnable", 5, 6), 16, Columns(c="Cmass_topk", d="KLr"))
    np.testing.assert_allclose(table.support["mass", 16], planted_frame("learnable", 5, 6)["base_Cmass_topk"])


def test_relative_gain_is_a_log_ratio_and_winsorised_gain_is_clipped():
    before, after = np.array([1.0, 0.0, 2.0, 0.5]), np.array([0.5, 0.0, 3.0, 0.5])
    found = gain_measures(before - after, before, after, 0.25, 0.75)
    np.testing.assert_allclose(found["relative"], np.log([1.01 / 0.51, 1, 2.01 / 3.01, 1]))
    np.testing.assert_allclose(found["winsorised"], np.clip(before - after, *np.quantile(before - after, [0.25, 0.75])))


def test_the_quadrant_of_the_file_is_taken_when_asked_for():
    frame = planted_frame("learnable", 10, 10)
    frame = frame.with_columns(base_H_norm=pl.col("base_Hs"), base_D_norm=pl.lit(0.5))
    settings = Settings(use_quadrant=True)
    table = gain_table(frame, 16, settings=settings)
    expected = frame["base_Hs"] < frame["base_Hs"].median()
    np.testing.assert_array_equal(unit_scores(table, settings).in_q3, expected.to_numpy())
    with pytest.raises(ValueError, match="--use-quadrant needs base_H_norm, base_D_norm"):
        gain_table(planted_frame("learnable", 10, 10), 16, settings=settings)
