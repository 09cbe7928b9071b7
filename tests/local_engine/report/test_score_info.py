"""The words of the scores follow the options of the run."""

from __future__ import annotations

import pytest
from local_engine.report.score_info import score_info
from ta_opd import Options
from ta_opd.options import PROXIES
from ta_opd.scores import VARIANTS
from ta_opd.selection import NORMALISATIONS

MASS = "probability mass on the student's top-k tokens"


def test_default_words() -> None:
    info = score_info(Options())
    assert info["entropy"]["help"].startswith("Full-vocabulary")
    assert info["entropy"]["unit"] == "nats"
    assert "0 at the 5% quantile, 1 at the 95% quantile" in info["H_norm"]["help"]
    for name in ("compatibility", "C_norm", "teachability", "incompatible"):
        assert MASS in info[name]["help"]


def test_words_of_other_options() -> None:
    info = score_info(Options(score_variant="released", compat_proxy="jaccard", metric_normalization="batch_minmax"))
    assert "renormalised top-k list, divided by log k" in info["entropy"]["help"]
    assert info["entropy"]["unit"] == ""
    assert "its own list only" in info["disagreement"]["help"]
    for name in ("H_norm", "D_norm", "C_norm"):
        assert "0 at the smallest value, 1 at the largest" in info[name]["help"]
        assert "quantile" not in info[name]["help"]
    assert MASS in info["compatibility"]["help"]
    for name in ("C_norm", "teachability", "incompatible"):
        assert "jaccard index" in info[name]["help"].lower()
        assert MASS not in info[name]["help"]


def test_words_name_the_numbers() -> None:
    options = Options(metric_q_low=0.07, metric_q_high=0.9, compat_proxy="prefix_ema", compat_prefix_ema_alpha=0.75)
    help_text = score_info(options)["C_norm"]["help"]
    assert "0 at the 7% quantile, 1 at the 90% quantile" in help_text
    assert "decay 0.75" in help_text
    assert "divided by the largest value" in score_info(Options(metric_normalization="none"))["D_norm"]["help"]


@pytest.mark.parametrize(
    ("name", "field", "choices"),
    [
        ("entropy", "score_variant", VARIANTS),
        ("C_norm", "compat_proxy", PROXIES),
        ("H_norm", "metric_normalization", NORMALISATIONS),
    ],
)
def test_each_choice_has_words_of_its_own(name: str, field: str, choices: tuple[str, ...]) -> None:
    assert len({score_info(Options(**{field: choice}))[name]["help"] for choice in choices}) == len(choices)
