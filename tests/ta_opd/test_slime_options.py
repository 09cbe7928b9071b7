import argparse
from dataclasses import fields

import pytest
from ta_opd.option_fields import add_flags, did_you_mean, field_values, flag, namespace_values
from ta_opd.options import Options
from ta_opd.slime_options import MASK_TARGETS, OVERFLOWS, WIRES, SlimeOptions

OURS = [f.name for f in fields(SlimeOptions) if f.name not in {g.name for g in fields(Options)}]


def parse(*words):
    parser = argparse.ArgumentParser()
    add_flags(parser, SlimeOptions)
    return parser.parse_args(words)


def test_the_documented_defaults_hold():
    options = SlimeOptions()
    assert (options.mask_target, options.normaliser, options.task_reward) == ("opd", "sample", "none")
    assert (options.topk_metrics_k, options.budget_mask, options.max_missing) == (0, "none", 0.05)
    assert not options.exact_cmass and options.exact_cmass_overflow == "fallback" and options.teacher_wire == "auto"


def test_flags_without_arguments_and_an_empty_mapping_give_the_defaults():
    assert SlimeOptions.from_namespace(parse()) == SlimeOptions() == SlimeOptions.from_mapping({})


VALUES = {
    "mask_target": "loss",
    "task_reward": "my.module.reward",
    "loss_coef": 0.5,
    "loss_top_k_form": "renormalised",
    "token_loss_dir": "losses",
    "exact_cmass_max_union": 77,
    "exact_cmass_overflow": "truncate",
    "teacher_url": "http://a/generate,http://b/generate",
    "teacher_concurrency": 3,
    "teacher_request_timeout": 2.5,
    "teacher_timeout": 9.0,
    "teacher_attempts": 2,
    "teacher_wire": "nested",
    "teacher_quarantine": "failed.jsonl",
    "max_missing": 0.5,
    "entry": "train_async",
}


@pytest.mark.parametrize("name", VALUES)
def test_a_flag_and_a_key_set_the_same_field_and_no_other(name):
    by_flag = SlimeOptions.from_namespace(parse(flag(name), str(VALUES[name])))
    by_key = SlimeOptions.from_mapping({f"opd_{name}": VALUES[name]})
    assert by_flag == by_key == SlimeOptions(**{name: VALUES[name]})
    assert [f.name for f in fields(by_key) if getattr(by_key, f.name) != f.default] == [name]


def test_every_field_of_ours_is_tried_here():
    assert sorted(OURS) == sorted([*VALUES, "exact_cmass", "add_sampled_token", "pack_head"])


def test_exact_cmass_is_a_switch_that_needs_top_k_lists():
    assert SlimeOptions.from_namespace(parse("--opd-exact-cmass", "--opd-topk-metrics-k", "4")).exact_cmass
    with pytest.raises(ValueError, match="--opd-exact-cmass needs --opd-topk-metrics-k above 0"):
        SlimeOptions(exact_cmass=True)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("exact_cmass_max_union", 0, "--opd-exact-cmass-max-union 0 is outside 1 or more"),
        ("teacher_concurrency", 0, "--opd-teacher-concurrency 0 is outside 1 or more"),
        ("teacher_attempts", 0, "--opd-teacher-attempts 0 is outside 1 or more"),
        ("teacher_request_timeout", 0.0, "--opd-teacher-request-timeout 0.0 must be above 0"),
        ("teacher_request_timeout", float("inf"), "--opd-teacher-request-timeout inf must be above 0"),
        ("teacher_timeout", float("nan"), "--opd-teacher-timeout nan must be above 0"),
        ("teacher_timeout", -1.0, "--opd-teacher-timeout -1.0 must be above 0"),
        ("max_missing", -0.01, "--opd-max-missing -0.01 is outside 0..1"),
        ("max_missing", 1.01, "--opd-max-missing 1.01 is outside 0..1"),
        ("max_missing", float("nan"), "--opd-max-missing nan is outside 0..1"),
        ("mask_target", "opsd", "--opd-mask-target 'opsd' is not one of opd, loss"),
        ("exact_cmass_overflow", "drop", "--opd-exact-cmass-overflow 'drop' is not one of"),
        ("teacher_wire", "json", "--opd-teacher-wire 'json' is not one of"),
        ("teacher_concurrency", 2.5, "--opd-teacher-concurrency takes a whole number; got 2.5"),
        ("exact_cmass", 1, "--opd-exact-cmass takes true or false; got 1"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_flag_and_the_range(name, value, message):
    with pytest.raises(ValueError, match=message):
        SlimeOptions(**{name: value})


@pytest.mark.parametrize("name", ["max_missing"])
@pytest.mark.parametrize("value", [0, 1])
def test_the_ends_of_a_range_belong_to_it(name, value):
    assert getattr(SlimeOptions(**{name: value}), name) == value


@pytest.mark.parametrize("name, choices", [("mask_target", MASK_TARGETS), ("teacher_wire", WIRES)])
def test_every_choice_is_taken(name, choices):
    assert [getattr(SlimeOptions(**{name: choice}), name) for choice in choices] == list(choices)
    assert [SlimeOptions(exact_cmass_overflow=choice).exact_cmass_overflow for choice in OVERFLOWS] == list(OVERFLOWS)


def test_the_ranges_of_the_selection_options_hold_here_too():
    with pytest.raises(ValueError, match=r"--opd-budget-ratio 0\.0 is outside 0\.\.1"):
        SlimeOptions(budget_ratio=0)
    with pytest.raises(ValueError, match="teachability needs --opd-topk-metrics-k above 0"):
        SlimeOptions(budget_mask="teachability")


def test_an_empty_value_of_a_text_in_yaml_is_the_empty_text():
    assert SlimeOptions.from_mapping({"opd_teacher_url": None}).teacher_url == ""
    with pytest.raises(ValueError, match="--opd-task-reward takes a text; got None"):
        SlimeOptions.from_mapping({"opd_task_reward": None})


def test_a_key_unknown_or_given_twice_is_refused():
    with pytest.raises(ValueError, match="unknown option 'opd_maxmissing'; did you mean opd_max_missing"):
        field_values(SlimeOptions, {"opd_maxmissing": 0.1})
    with pytest.raises(ValueError, match="given twice"):
        field_values(SlimeOptions, {"opd_max_missing": 0.1, "max_missing": 0.2})


def test_a_namespace_gives_what_it_has_and_nothing_else():
    args = argparse.Namespace(opd_max_missing=0.2, max_missing=0.9, opd_kl_coef=1.0)
    assert namespace_values(SlimeOptions, args) == {"max_missing": 0.2}


def test_a_far_name_gets_no_suggestion():
    assert did_you_mean("opd_zzzzzz", ["opd_max_missing"]) == ""
