"""What the token view holds, against the analysis itself."""

import base64

import numpy as np
import polars as pl
import pytest
from fixed_context.report.tokens import token_view
from fixed_context.statistics.topn import select_all
from fixed_context.statistics.unit_scores import unit_scores

from .report_files import WORDS, metrics_frame, source_of, text_of


@pytest.fixture(scope="module")
def masked():
    """Every fifth token does not count."""
    frame = metrics_frame().with_columns(
        loss_mask=pl.when(pl.col("tok_pos") % 5 == 4).then(0).otherwise(1).cast(pl.Int8),
    )
    return source_of(frame)


@pytest.fixture(scope="module")
def view(masked):
    return token_view(masked, text_of, {}, (0.1, 0.5))


def bits(text, size):
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), bitorder="little")[:size].astype(bool)


def halves(text):
    return np.frombuffer(base64.b64decode(text), "<f2").astype(float)


def test_kept_tokens_are_those_of_the_selectors_and_count(masked, view):
    counts = masked.frame["loss_mask"].to_numpy() != 0
    assert bits(view["counted"], len(counts)).tolist() == counts.tolist()
    for entry in view["kept"]:
        chosen = {c.name: c for c in select_all(masked.table, entry["n"], masked.settings)}[entry["selector"]]
        kept = bits(entry["bits"], len(counts))
        assert kept[counts].tolist() == (chosen.weight > 0).tolist()
        assert not kept[~counts].any()
        assert entry["kept"] == kept.sum()
    assert {entry["ratio"] for entry in view["kept"]} == {0.1, 0.5}
    assert "random_expected" not in {entry["selector"] for entry in view["kept"]}


def test_quadrant_three_is_the_q3_of_the_analysis(masked, view):
    counts = masked.frame["loss_mask"].to_numpy() != 0
    quadrants = np.array(list(view["quadrants"]))
    assert (quadrants[counts] == "3").tolist() == unit_scores(masked.table, masked.settings).in_q3.tolist()
    assert set(quadrants[~counts]) == {"0"}


def test_columns_are_the_files_numbers(masked, view):
    frame = masked.frame
    for name, values in {
        "kl:before": frame["base_KLf"],
        "kl:after": frame["KLf"],
        "kl:change": frame["G_KLf"],
        "entropy:change": frame["Hs"] - frame["base_Hs"],
    }.items():
        np.testing.assert_allclose(halves(view["columns"][name]), values.to_numpy(), rtol=6e-4, atol=1e-7)
    assert np.isnan(halves(view["columns"]["learnable:"])).tolist() == (frame["loss_mask"] == 0).to_list()


def test_a_score_that_the_file_lacks_is_not_offered(view):
    when = {score["key"]: score["when"] for score in view["scores"]}
    assert when["kl"] == ["before", "after", "change"]
    assert when["disagreement"] == ["before"]
    assert when["learnable"] == [""]
    assert "student_logp" not in when


def test_percentiles_span_what_is_known(view, masked):
    cuts = view["quantiles"]["kl:before"]
    assert len(cuts) == 101
    np.testing.assert_allclose(
        [cuts[0], cuts[50], cuts[100]], np.quantile(masked.frame["base_KLf"], [0, 0.5, 1]), rtol=1e-4
    )


def test_texts_and_contexts_come_in_the_order_of_the_file(view, masked):
    numbers = np.frombuffer(base64.b64decode(view["tokens"]), np.uint8).reshape(-1, 3).astype(int) @ [1, 256, 65536]
    assert [view["strings"][n] for n in numbers[: len(WORDS)]] == WORDS
    assert [context["length"] for context in view["contexts"]] == [12] * 15
    first = masked.frame.filter((pl.col("context_id") == view["contexts"][0]["id"]) & (pl.col("loss_mask") != 0))
    assert view["contexts"][0]["gain"] == pytest.approx(first["G_KLf"].mean(), rel=1e-4)


def test_lists_that_are_not_there_are_not_shown():
    frame = metrics_frame().drop("base_student_top_ids", "base_student_top_logps")
    assert set(token_view(source_of(frame), text_of, {}, (0.1,))["top"]) == {"after", "teacher"}
