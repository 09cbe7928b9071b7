"""Selectors at the same n: exact counts, a table worked out by hand, paired differences."""

import numpy as np
import polars as pl
import pytest
from fixed_context.statistics.bootstrap import Clusters
from fixed_context.statistics.gain import gain_table
from fixed_context.statistics.settings import Settings
from fixed_context.statistics.topn import select_all, top_rows
from ta_opd.methods import SELECTORS

from .planted import planted_frame


@pytest.fixture(scope="module")
def table():
    return gain_table(planted_frame("learnable", 20, 15), 16, other=["KLr"])


@pytest.mark.parametrize("n", [1, 7, 40])
def test_every_selector_keeps_exactly_n(table, n):
    chosen = select_all(table, n)
    assert {c.name for c in chosen} == {s.name for s in SELECTORS if s.mask != "full"} | {"random_expected"}
    assert all(c.weight.sum() == pytest.approx(n) and not c.note for c in chosen)


def test_a_table_of_six_tokens_agrees_with_one_made_by_hand():
    frame = pl.DataFrame(
        {
            "prompt_id": ["a", "a", "b", "b", "c", "c"],
            "pos_norm": [0.0, 1, 0, 1, 0, 1],
            "base_Hs": [0.1, 0.9, 0.2, 0.8, 0.3, 0.7],
            "base_Ht": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
            "base_KLf_union": [2.0, 0.1, 1.0, 0.2, 3.0, 0.3],
            "base_Cmass_exact": [0.9, 0.5, 0.4, 0.6, 0.1, 0.7],
            "G_KLf": [0.4, 0.0, 0.3, -0.1, -0.2, 0.1],
        }
    )
    table = gain_table(frame, 16)
    rows, pairs = top_rows(table, Clusters(table.prompt, 50), Settings(q_low=0, q_high=1), (1 / 3,))
    by_name = {r["selector"]: r for r in rows}
    # d = (D - .1) / 2.9, c = (C - .1) / .8: d c is .655 for the first token, then .116 for the third
    expected = {"teachability": [0, 2], "entropy": [1, 3], "divergence": [4, 0], "compatibility": [0, 5]}
    for name, tokens in expected.items():
        assert by_name[name]["n"] == by_name[name]["kept"] == 2
        for key, column in (("gain_per_kept", "G_KLf"), ("mean_H", "base_Hs"), ("mean_D", "base_KLf_union")):
            assert by_name[name][key] == pytest.approx(frame[column].to_numpy()[tokens].mean()), (name, key)
        assert by_name[name]["gain"] == pytest.approx(frame["G_KLf"].to_numpy()[tokens].sum())
    assert by_name["teachability"]["q3_share"] == 1 and by_name["entropy"]["q3_share"] == 0
    assert by_name["random_expected"]["gain_per_kept"] == pytest.approx(0.5 / 6)
    pair = next(p for p in pairs if (p["a"], p["b"]) == ("teachability", "divergence"))
    assert pair["difference"] == pytest.approx(0.35 - 0.1) and pair["jaccard"] == pytest.approx(1 / 3)
    assert "base_KLr" in by_name["tip_paper"]["note"] and by_name["tip_paper"]["gain_per_kept"] is None


def test_a_planted_learnable_effect_puts_teachability_above_incompatible(table):
    _, pairs = top_rows(table, Clusters(table.prompt, 300), ratios=(0.1,))
    pair = next(p for p in pairs if (p["a"], p["b"]) == ("teachability", "dincompat_high"))
    assert pair["difference_low"] > 0


def test_a_restricted_selector_that_runs_out_says_how_many_it_had(table):
    short = {c.name: c for c in select_all(table, 250)}["q3_highc"]
    assert "tokens are eligible" in short.note and short.weight.sum() < 250


def test_paired_intervals_are_narrower_than_unpaired_ones_where_selectors_agree(table):
    rows, pairs = top_rows(table, Clusters(table.prompt, 300), ratios=(0.2,))
    sides = {r["selector"]: r for r in rows}
    pair = next(p for p in pairs if (p["a"], p["b"]) == ("tip", "divergence"))
    assert pair["jaccard"] > 0.2
    unpaired = np.hypot(sides["tip"]["gain_per_kept_se"], sides["divergence"]["gain_per_kept_se"])
    assert pair["difference_se"] < unpaired
