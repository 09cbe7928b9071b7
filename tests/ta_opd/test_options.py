import argparse
import math
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from ta_opd import Options
from ta_opd.options import add_arguments, flag

RELEASED_DEFAULTS = {
    "topk_metrics_k": 0,
    "budget_mask": "none",
    "budget_ratio": 1.0,
    "budget_gamma": 0.5,
    "budget_mask_seed": 42,
    "budget_min_keep_per_sample": 1,
    "compat_proxy": "mass",
    "compat_prefix_ema_alpha": 0.9,
    "metric_normalization": "batch_quantile",
    "metric_q_low": 0.05,
    "metric_q_high": 0.95,
    "token_bank_raw_topk": False,
}
PAPER_DEFAULTS = {
    "score_variant": "paper",
    "normaliser": "selected",
    "jsd_beta": 0.5,
    "taid_t_start": 0.4,
    "taid_t_end": 1.0,
    "taid_alpha": 5e-4,
    "taid_beta": 0.99,
    "entropy_gate": "hard_add",
    "entropy_tau": 0.8,
    "entropy_alpha": 1.0,
    "token_bank_format": "parquet",
}
CHOICES = {
    "compat_proxy": ("mass", "set", "bc", "prefix_ema", "jaccard"),
    "metric_normalization": ("batch_quantile", "batch_minmax", "none"),
    "budget_scope": ("batch", "sample"),
    "score_variant": ("paper", "released"),
    "normaliser": ("selected", "sample"),
    "token_bank_format": ("parquet", "csv", "jsonl"),
    "loss": ("sampled_token", "forward_kl", "reverse_kl", "jsd", "taid", "entropy_aware"),
    "taid_space": ("logit", "prob"),
    "taid_divergence": ("forward_kl", "reverse_kl", "jsd"),
    "entropy_gate": ("hard_add", "sigmoid", "h_max"),
}
OUT_OF_RANGE = [
    ("topk_metrics_k", -1),
    ("budget_ratio", 0.0),
    ("budget_ratio", 1.5),
    ("budget_gamma", -0.1),
    ("budget_gamma", 1.1),
    ("budget_min_keep_per_sample", -1),
    ("compat_prefix_ema_alpha", -0.1),
    ("compat_prefix_ema_alpha", 1.0),
    ("metric_q_low", -0.01),
    ("metric_q_high", 1.01),
    ("jsd_beta", 1.1),
    ("loss_top_k", -1),
    ("jsd_token_clip", -0.5),
    ("loss_temperature", 0.0),
    ("loss_temperature", math.inf),
    ("taid_t_start", 1.0),
    ("taid_t_end", 0.2),
    ("taid_alpha", 2.0),
    ("taid_beta", 1.0),
    ("entropy_tau", -0.1),
    ("entropy_alpha", -1.0),
    ("entropy_width", 0.0),
    ("entropy_h_max", -1.0),
]
FLOATS = [f.name for f in fields(Options) if f.metadata["type"] is float]


def parse(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return Options.from_namespace(parser.parse_args(words))


def test_defaults_are_those_of_the_released_flags_and_the_papers():
    defaults = asdict(Options())
    for name, value in {**RELEASED_DEFAULTS, **PAPER_DEFAULTS}.items():
        assert defaults[name] == value and type(defaults[name]) is type(value), name
    for name in ("token_bank_dir", "token_bank_pair_id", "teacher_name", "student_name"):
        assert defaults[name] == ""


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_named_with_its_flag(name, value):
    with pytest.raises(ValueError, match=rf"{flag(name)} {value} (is outside .*\d|must be above 0)"):
        Options(**{name: value})


@pytest.mark.parametrize("name", FLOATS)
def test_nan_is_no_value(name):
    with pytest.raises(ValueError, match=flag(name)):
        Options(**{name: math.nan})


@pytest.mark.parametrize("name", CHOICES)
def test_an_unknown_choice_lists_the_known_ones(name):
    for choice in CHOICES[name]:
        assert getattr(Options(**{name: choice}), name) == choice
    with pytest.raises(ValueError, match=flag(name)) as error:
        Options(**{name: "nonsense"})
    assert all(choice in str(error.value) for choice in CHOICES[name])


def test_every_option_with_choices_is_tried():
    assert set(CHOICES) == {f.name for f in fields(Options) if f.metadata["choices"]}


def test_an_unknown_method_and_a_method_without_supports_are_refused():
    with pytest.raises(ValueError, match="--opd-budget-mask: unknown method 'best'; known: pure_opd"):
        Options(budget_mask="best")
    with pytest.raises(ValueError, match="--opd-budget-mask tip needs --opd-topk-metrics-k above 0"):
        Options(budget_mask="tip")
    for name in ("none", "full", "random"):
        assert Options(budget_mask=name).topk_metrics_k == 0


def test_crossed_quantiles_are_refused():
    with pytest.raises(ValueError, match=r"--opd-metric-q-low 0.5 must be below --opd-metric-q-high 0.5"):
        Options(metric_q_low=0.5, metric_q_high=0.5)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("topk_metrics_k", 16.0, "a whole number"),
        ("topk_metrics_k", True, "a whole number"),
        ("topk_metrics_k", "16", "a whole number"),
        ("budget_ratio", "0.1", "a number"),
        ("budget_ratio", True, "a number"),
        ("budget_ratio", None, "a number"),
        ("budget_mask", None, "a text"),
        ("token_bank_raw_topk", 1, "true or false"),
        ("compat_proxy", ["mass"], "a text"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_flag(name, value, kind):
    with pytest.raises(ValueError, match=f"{flag(name)} takes {kind}; got"):
        Options(**{name: value})


@pytest.mark.parametrize("name", FLOATS)
def test_whole_numbers_are_taken_for_numbers(name):
    default = {"budget_ratio": 1, "taid_t_end": 1, "loss_temperature": 2, "entropy_width": 2, "metric_q_high": 1}
    value = getattr(Options(**{name: default.get(name, 0)}), name)
    assert type(value) is float and value == default.get(name, 0)


def test_a_mapping_takes_keys_with_and_without_the_prefix():
    expected = Options(topk_metrics_k=16, budget_mask="teachability", budget_ratio=0.1)
    for prefix in ("", "opd_", "--opd-"):
        keys = {"topk_metrics_k": 16, "budget_mask": "teachability", "budget_ratio": 0.1}
        assert Options.from_mapping({prefix + key: value for key, value in keys.items()}) == expected
    assert Options.from_mapping(asdict(expected)) == expected
    assert Options.from_mapping({}) == Options()


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("opd_budget_rato", "opd_budget_ratio"),
        ("budget-masks", "opd_budget_mask"),
        ("topk_metric_k", "opd_topk_metrics_k"),
    ],
)
def test_an_unknown_key_names_the_nearest(key, nearest):
    with pytest.raises(ValueError, match=rf"unknown option '{key}'; did you mean {nearest}\?"):
        Options.from_mapping({key: 1})


def test_a_key_like_no_other_is_refused_without_a_guess():
    with pytest.raises(ValueError, match=r"^unknown option 'zzzzzz'$"):
        Options.from_mapping({"zzzzzz": 1})


def test_flags_and_namespace_round_trip():
    assert parse() == Options()
    changed = {
        "topk_metrics_k": 16,
        "budget_mask": "ca_softor",
        "budget_ratio": 0.03,
        "budget_mask_seed": 7,
        "score_variant": "released",
        "loss": "taid",
        "token_bank_raw_topk": True,
        "token_bank_dir": "/bank",
    }
    words = [word for name, value in changed.items() for word in (flag(name), str(value)) if word != "True"]
    assert parse(*words) == replace(Options(), **changed)
    namespace = argparse.Namespace(**{f"opd_{name}": value for name, value in changed.items()}, lr=1e-6)
    assert Options.from_namespace(namespace) == replace(Options(), **changed)


def test_every_option_is_a_flag_with_help_and_can_be_left_out():
    parser = argparse.ArgumentParser()
    add_arguments(parser, leave_out=("loss",))
    shown = parser.format_help()
    for f in fields(Options):
        assert (flag(f.name) + " " in shown or flag(f.name) + "\n" in shown or flag(f.name) + "]" in shown) == (
            f.name != "loss"
        ), f.name


def test_flags_with_choices_refuse_others_at_the_command_line(capsys):
    with pytest.raises(SystemExit):
        parse("--opd-loss", "mse")
    assert "--opd-loss" in capsys.readouterr().err


def test_the_full_mask_has_ratio_one_whatever_is_asked():
    assert Options(budget_mask="none", budget_ratio=0.1).budget_ratio == 1.0


def test_none_stands_for_an_empty_text_as_in_the_released_flags():
    assert Options(token_bank_dir=None).token_bank_dir == ""
    with pytest.raises(ValueError, match="--opd-loss takes a text"):
        Options(loss=None)


def test_numpy_numbers_are_numbers_and_truth_values_are_not():
    assert Options(budget_mask="random", budget_ratio=np.float64(0.5)).budget_ratio == 0.5
    with pytest.raises(ValueError, match="--opd-budget-ratio takes a number"):
        Options(budget_ratio=True)


def test_a_key_given_with_and_without_the_prefix_is_refused():
    with pytest.raises(ValueError, match="given twice"):
        Options.from_mapping({"budget_gamma": 0.1, "opd_budget_gamma": 0.2})


def test_a_loss_option_that_the_chosen_loss_does_not_read_is_refused_on_request():
    Options(loss="jsd", jsd_beta=0.2, loss_top_k=5).check_read()
    with pytest.raises(ValueError, match=r"--opd-jsd-beta 0.2 does nothing with --opd-loss forward_kl; .* jsd, taid"):
        Options(loss="forward_kl", jsd_beta=0.2).check_read()
