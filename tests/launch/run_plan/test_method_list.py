"""METHOD_LIST as released: aliases, ratios, indices, and what is refused."""

import pytest
from run_plan.method_list import parse_method_list, ratio_text, sweep
from ta_opd import SELECTORS

RELEASED_ALIASES = {
    "full": ("pure_opd", "full_opd", "full", "none"),
    "dlearn_high": ("teachability", "teachability_high", "dlearn", "dlearn_high"),
    "entropy": ("entropy", "high_entropy"),
    "ca_softor": ("teachability_entropy", "entropy_teachability", "ta_softor", "dlearn_entropy"),
    "split_budget_ca": ("teachability_entropy_split", "entropy_teachability_split", "ta_split"),
    "tip": ("tip", "tip_softor"),
    "q3_highc": ("q3_highc", "q3_highC"),
    "q3": ("q3",),
    "divergence": ("divergence", "high_d", "raw_d"),
    "compatibility": ("compatibility", "high_c"),
    "random": ("random",),
    "q3_lowc": ("q3_lowc",),
    "q3_dlearn_high": ("q3_teachability_high", "q3_dlearn_high"),
    "q3_dlearn_low": ("q3_teachability_low", "q3_dlearn_low"),
    "q3_dincompat_high": ("q3_dincompat_high",),
    "dincompat_high": ("dincompat_high",),
}


@pytest.mark.parametrize(("mask", "aliases"), RELEASED_ALIASES.items())
def test_every_released_alias_means_its_mask(mask, aliases):
    for alias in aliases:
        (entry,) = parse_method_list(f"{alias}:0.25:7")
        assert (entry.mask, entry.index) == (mask, 7)
        assert entry.ratio == ("1.00" if mask == "full" else "0.25")


def test_every_selector_is_a_method():
    for selector in SELECTORS:
        (entry,) = parse_method_list(selector.name)
        assert (entry.method, entry.mask) == (selector.name, selector.mask)


def test_commas_spaces_and_lines_separate_entries_and_order_is_kept():
    entries = parse_method_list(" tip:0.2,random:0.2\n\tentropy:0.30 , q3 ")
    assert [(e.method, e.ratio, e.index) for e in entries] == [
        ("tip", "0.20", 10),
        ("random", "0.20", 20),
        ("entropy", "0.30", 30),
        ("q3", "0.10", 40),
    ]


def test_an_alias_is_noted():
    assert [e.notes for e in parse_method_list("dlearn:0.1 tip:0.1 ca_softor:0.1")] == ["given as dlearn", "", ""]


def test_a_ratio_that_the_full_budget_does_not_take_is_noted():
    asked = {
        "pure_opd:0.3": "ratio 0.3 asked, forced to 1.0",
        "none:0.3": "given as none; ratio 0.3 asked, forced to 1.0",
        "full:1.00:5": "",
        "pure_opd": "",
        "pure_opd::5": "",
    }
    for text, notes in asked.items():
        (entry,) = parse_method_list(text)
        assert (entry.ratio, entry.notes) == ("1.00", notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "METHOD_LIST has no entry"),
        (" , ", "METHOD_LIST has no entry"),
        ("teachabilty:0.1", "unknown method 'teachabilty'; did you mean teachability?"),
        ("zzzz", "unknown method 'zzzz'; known are pure_opd, teachability"),
        ("tip:0", "the ratio 0 is outside (0, 1]"),
        ("tip:1.01", "the ratio 1.01 is outside (0, 1]"),
        ("tip:nan", "the ratio nan is outside (0, 1]"),
        ("tip:-0.1", "outside (0, 1]"),
        ("tip:ten", "the ratio 'ten' is not a number in (0, 1]"),
        ("tip:0.1:x", "the index 'x' is not a whole number from 0"),
        ("tip:0.1:-1", "the index '-1' is not a whole number from 0"),
        ("tip:0.1:", "the index '' is not a whole number from 0"),
        ("tip:0.1:1:2", "is not method, method:ratio or method:ratio:index"),
        ("tip:0.1 tip_softor:0.10", "METHOD_LIST names tip:0.10 twice ('tip_softor:0.10' is the second)"),
        ("none:0.1 pure_opd:0.3", "METHOD_LIST names pure_opd:1.00 twice"),
    ],
)
def test_a_bad_entry_is_named(text, message):
    with pytest.raises(ValueError) as error:
        parse_method_list(text)
    assert message in str(error.value)


def test_ratios_have_two_decimals_or_as_many_as_they_need():
    assert [ratio_text(r) for r in (0.1, 1.0, 0.05, 0.125, 0.001)] == ["0.10", "1.00", "0.05", "0.125", "0.001"]


def test_a_sweep_has_every_method_at_every_ratio_and_full_methods_once():
    text = sweep("tip,pure_opd q3_highC", "0.05 .1")
    assert text == "pure_opd:1.00:10 tip:0.05:20 q3_highc:0.05:30 tip:0.10:40 q3_highc:0.10:50"
    assert len(parse_method_list(text)) == 5


@pytest.mark.parametrize(
    ("methods", "ratios", "message"),
    [
        ("tip", "", "RATIOS has no entry"),
        ("tip", "0.1 0.10", "names a ratio twice"),
        ("tip", "2", "RATIOS: the ratio 2 is outside (0, 1]"),
        ("", "0.1", "METHODS has no entry"),
        ("tpi", "0.1", "METHODS: 'tpi': unknown method 'tpi'; did you mean tip?"),
    ],
)
def test_a_bad_sweep_is_named(methods, ratios, message):
    with pytest.raises(ValueError) as error:
        sweep(methods, ratios)
    assert message in str(error.value)
