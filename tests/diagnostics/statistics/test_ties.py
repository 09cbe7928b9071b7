"""Where H or D ties at its split there is no Q3, and every table says so in place of a number."""

import numpy as np
import polars as pl
import pytest
from fixed_context.statistics.bootstrap import Clusters
from fixed_context.statistics.gain import gain_table
from fixed_context.statistics.reachability import reachability_rows
from fixed_context.statistics.rows.q3 import q3_rows
from fixed_context.statistics.settings import Settings
from fixed_context.statistics.topn import top_rows
from fixed_context.statistics.unit_scores import unit_scores
from fixed_context.statistics.within_q3 import within_q3_rows

from .planted import planted_frame

SETTINGS = Settings(bootstrap=50)


def tied(column, share, seed=3):
    frame = planted_frame("learnable", 40, 20, seed=seed, ks=())
    zero = np.random.default_rng(0).random(len(frame)) < share
    values = np.where(zero, 0.0, frame[column].to_numpy())
    return gain_table(frame.with_columns(pl.Series(column, values)), 16, other=["reach_t1", "after:reach_t1"])


@pytest.mark.parametrize(("column", "told"), [("base_KLf_union", "D has so many"), ("base_Hs", "H has so many")])
def test_with_seven_tenths_of_zeros_there_is_no_q3_and_no_number_of_it(column, told):
    table = tied(column, 0.7)
    clusters = Clusters(table.prompt, 50)
    scores = unit_scores(table, SETTINGS)
    assert not scores.in_q3.any() and told in scores.no_q3
    gaps, _ = q3_rows(table, SETTINGS, clusters)
    assert all(row["difference"] is None and told in row["note"] for row in gaps)
    within, quarters = within_q3_rows(table, SETTINGS)
    assert not quarters and all(row["value"] is None and told in row["note"] for row in within)
    reach = [row for row in reachability_rows(table, SETTINGS) if row["group"] != "all"]
    assert len(reach) == 4 and all(row["value"] is None and told in row["note"] for row in reach)
    rows, _ = top_rows(table, clusters, SETTINGS, (0.1,))
    assert all(row["q3_share"] is None for row in rows)


def test_a_few_ties_leave_q3_as_it_was():
    table = tied("base_KLf_union", 0.3)
    scores = unit_scores(table, SETTINGS)
    assert scores.in_q3.any() and scores.no_q3 == ""
