"""Files in: what is missing is named, what is masked or unknown is left out and counted, joins are one to one."""

import numpy as np
import polars as pl
import pytest
from fixed_context.schema import write_parquet
from fixed_context.statistics.gain import gain_measures, gain_table, load_gains
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


@pytest.mark.parametrize("paths", [{}, {"before": "x"}, {"input_path": "x", "before": "x", "after": "y"}])
def test_neither_or_both_ways_of_giving_the_files_is_refused(paths):
    with pytest.raises(ValueError, match="--input FILE, or both"):
        load_gains(**paths)


def test_missing_columns_are_all_named_with_what_to_do():
    frame = planted_frame("learnable", 5, 5).drop("G_KLf", "base_Ht")
    with pytest.raises(ValueError, match=r"missing columns Ht, G_KLf; score with --baseline-metrics"):
        gain_table(frame, 16)


def test_a_column_of_text_and_one_without_a_number_are_named():
    frame = planted_frame("learnable", 5, 5)
    with pytest.raises(ValueError, match="base_Cmass_exact holds no number"):
        gain_table(frame.with_columns(base_Cmass_exact=pl.lit(None, pl.Float64)), 16)
    with pytest.raises(ValueError, match="base_Hs is String"):
        gain_table(frame.with_columns(base_Hs=pl.lit("x")), 16)


def test_masked_tokens_and_nan_are_left_out_and_counted():
    frame = planted_frame("learnable", 5, 6)
    frame = frame.with_columns(
        loss_mask=pl.when(pl.int_range(pl.len()) < 4).then(0).otherwise(1),
        base_Hs=pl.when(pl.int_range(pl.len()) == 10).then(float("nan")).otherwise(pl.col("base_Hs")),
        G_KLf=pl.when(pl.int_range(pl.len()) == 11).then(None).otherwise(pl.col("G_KLf")),
    )
    table = gain_table(frame, 16)
    assert len(table) == 24
    assert table.counts["masked"] == 4 and table.counts["without_base_Hs"] == 1 and table.counts["without_G_KLf"] == 1


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
    with pytest.raises(ValueError, match="--use-quadrant needs H_norm, D_norm"):
        gain_table(planted_frame("learnable", 10, 10), 16, settings=settings)
