import json
import sys

import pytest
import train
import train_opd
from slime.utils import opd_teacher_checks
from slime.utils.opd_versions import LOSS_PATH, PATHS

WORDS = ("--use-opd", "--opd-type", "sglang", "--rm-url", "http://127.0.0.1:1/generate")


@pytest.fixture
def start(monkeypatch):
    """Runs the entry with these words; returns the arguments training started with. Teachers are not asked here."""
    asked = []

    def run(*words):
        train.STARTED.clear()
        asked.clear()
        monkeypatch.setattr(sys, "argv", ["train_opd.py", *words])
        monkeypatch.setattr(
            opd_teacher_checks, "check_teachers", lambda args, options, tokenizer: asked.append(options)
        )
        train_opd.main()
        return train.STARTED[0]

    run.asked = asked
    return run


def refused(start, capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        start(*words)
    assert stopped.value.code == 2 and not train.STARTED
    error = capsys.readouterr().err
    assert error.startswith("train_opd.py: error: ") and error.count("\n") == 1
    return error


def test_our_flags_beside_slimes_start_training_with_our_hooks(start):
    args = start(*WORDS, "--opd-topk-metrics-k", "16", "--opd-budget-mask=teachability", "--opd-budget-ratio", "0.1")
    assert (args.opd_topk_metrics_k, args.opd_budget_mask, args.opd_budget_ratio) == (16, "teachability", 0.1)
    assert {name: getattr(args, name) for name in PATHS} == PATHS
    assert len(start.asked) == 1 and start.asked[0].budget_ratio == 0.1


def test_keys_of_the_custom_config_do_the_same_and_win(start, tmp_path):
    path = tmp_path / "opd.json"
    path.write_text(json.dumps({"opd_topk_metrics_k": 8, "opd_budget_mask": "entropy", "opd_budget_ratio": 0.2}))
    args = start(*WORDS, "--opd-budget-ratio", "0.5", "--custom-config-path", str(path))
    assert (args.opd_topk_metrics_k, args.opd_budget_mask, args.opd_budget_ratio) == (8, "entropy", 0.2)
    assert start.asked[0].budget_mask == "entropy"


def test_an_unknown_or_wrong_key_of_the_custom_config_is_refused(start, capsys, tmp_path):
    path = tmp_path / "opd.json"
    path.write_text(json.dumps({"opd_budget_ration": 0.2}))
    error = refused(start, capsys, *WORDS, "--custom-config-path", str(path))
    assert "unknown option opd_budget_ration; did you mean opd_budget_ratio?" in error
    path.write_text(json.dumps({"opd_budget_ratio": 7}))
    assert "--opd-budget-ratio 7.0 is outside 0..1" in refused(start, capsys, *WORDS, "--custom-config-path", str(path))


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("--opd-budget-ration", "--opd-budget-ratio"),
        ("--opd-budget-ration=0.1", "--opd-budget-ratio"),
        ("--opd-budget-rati", "--opd-budget-ratio"),
        ("--opd-kl-coeff", "--opd-kl-coef"),
        ("--opd_budget_ratio", "--opd-budget-ratio"),
        ("--opd-budget_ratio=0.1", "--opd-budget-ratio"),
    ],
)
def test_a_flag_that_is_nobodys_is_refused_with_the_nearest(start, capsys, word, near):
    error = refused(start, capsys, *WORDS, word, "0.1")
    assert f"unknown flag {word.partition('=')[0]}; did you mean {near}?" in error


@pytest.mark.parametrize(
    "words",
    [
        ("--opd-kl-coef", "0.5"),
        ("--opd-teacher-load=x",),
        ("--opd-teacher-ckpt-step", "3"),
        ("--optimizer", "adam", "--unknown-of-slime", "1"),
    ],
)
def test_slimes_own_flags_pass(start, words):
    assert start(*WORDS, *words).use_opd


def test_help_lists_ours(start, capsys):
    with pytest.raises(SystemExit) as stopped:
        start("--help")
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--opd-budget-mask", "--opd-mask-target", "--opd-max-missing"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "add --use-opd, or start slime's train.py"),
        ((*WORDS, "--opd-budget-ratio", "0"), "--opd-budget-ratio 0.0 is outside"),
        ((*WORDS, "--opd-budget-mask", "teachability"), "needs --opd-topk-metrics-k above 0"),
        ((*WORDS, "--rollout-temperature", "0.7"), "--rollout-temperature 0.7 with an SGLang teacher"),
        ((*WORDS, "--custom-rm-path", "mine.reward"), "--custom-rm-path mine.reward: name your reward with"),
    ],
)
def test_a_mistake_ends_with_two_and_one_line(start, capsys, words, message):
    assert message in refused(start, capsys, *words)


def test_a_teacher_that_does_not_answer_ends_the_start(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_opd.py", *WORDS, "--hf-checkpoint", "x"])
    train.STARTED.clear()
    with pytest.raises(SystemExit):
        train_opd.main()
    assert "the teacher at http://127.0.0.1:1/generate cannot be reached" in capsys.readouterr().err
    assert not train.STARTED


@pytest.mark.parametrize(
    "words", [("--debug-train-only",), ("--load-debug-rollout-data", "x"), ("--opd-type", "megatron")]
)
def test_a_run_that_asks_no_teacher_looks_for_none(start, words):
    assert start(*WORDS, *words).use_opd and not start.asked


DENSE = (*WORDS, "--opd-loss", "jsd", "--opd-loss-top-k", "16")


def test_a_loss_of_whole_distributions_finds_its_place(start):
    args = start(*DENSE)
    assert (args.loss_type, args.custom_loss_function_path) == ("custom_loss", LOSS_PATH)
    args = start(*DENSE, "--loss-type", "custom_loss")
    assert (args.loss_type, args.custom_loss_function_path) == ("custom_loss", LOSS_PATH)
    assert start(*WORDS).loss_type == "policy_loss"


def test_a_loss_of_whole_distributions_named_as_an_advantage_is_refused_with_the_reason(start, capsys):
    error = refused(start, capsys, *DENSE, "--loss-type", "policy_loss")
    assert "its policy gradient is zero in expectation" in error and LOSS_PATH in error
