"""What settings are refused before a run starts."""

import logging
from types import SimpleNamespace

import pytest
from slime.utils.opd_checks import check_settings, check_tier, fill_in_hooks
from slime.utils.opd_settings import slime_options
from slime.utils.opd_versions import PATHS, TRAINER_HOOKS

from .rollouts import arguments

ROLLOUT_HOOKS = [name for name in PATHS if name not in TRAINER_HOOKS]


def check(**values):
    args = arguments(**values)
    check_settings(args, slime_options(args))


def old_slime(**values):
    args = arguments(**values)
    del args.custom_advantage_function_path
    return args


def test_the_paths_name_functions_that_are_there():
    from slime.utils.misc import load_function

    assert all(callable(load_function(path)) for path in PATHS.values())


def test_hooks_left_empty_are_filled_in_and_ours_stay():
    args = arguments(**dict.fromkeys(PATHS))
    args.custom_megatron_init_path = PATHS["custom_megatron_init_path"]
    fill_in_hooks(args)
    assert {name: getattr(args, name) for name in PATHS} == PATHS


def test_a_teacher_in_the_trainer_leaves_slimes_own_rewards():
    args = arguments(**dict.fromkeys(PATHS), opd_type="megatron")
    fill_in_hooks(args)
    assert all(getattr(args, name) is None for name in ROLLOUT_HOOKS)
    assert all(getattr(args, name) == PATHS[name] for name in TRAINER_HOOKS)


def test_a_slime_without_the_advantage_hook_gets_none_of_the_trainers():
    args = old_slime(**dict.fromkeys(PATHS))
    fill_in_hooks(args)
    assert args.rollout_data_postprocess_path is None and args.custom_megatron_init_path is None
    assert all(getattr(args, name) == PATHS[name] for name in ROLLOUT_HOOKS)


@pytest.mark.parametrize("name", [*TRAINER_HOOKS, "custom_reward_post_process_path", "custom_rm_path"])
def test_somebody_elses_hook_where_ours_is_needed_is_refused_with_its_flag(name):
    message = "--opd-task-reward" if name == "custom_rm_path" else "takes the place of slime.*which OPD needs"
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} mine.hook.*{message}"):
        fill_in_hooks(arguments(**{name: "mine.hook"}))


@pytest.mark.parametrize("name", ["custom_generate_function_path", "custom_rollout_log_function_path"])
def test_somebody_elses_hook_that_can_do_our_part_is_kept_and_told_what_to_call(name, caplog):
    args = arguments(**{name: "mine.hook"})
    with caplog.at_level(logging.WARNING):
        fill_in_hooks(args)
    assert getattr(args, name) == "mine.hook"
    assert f"--{name.replace('_', '-')} is mine.hook" in caplog.text
    assert "record_student_topk" in caplog.text or "remember_rollout" in caplog.text


def test_good_settings_pass():
    check()
    check(rollout_temperature=1.0, rollout_top_p=1, rollout_top_k=-1, loss_type="policy_loss", opd_kl_coef=0.0)
    check(opd_budget_mask="teachability", opd_budget_ratio=0.1, opd_task_reward="rm", rm_type="math")
    check(opd_type="megatron", rollout_temperature=0.7, opd_topk_metrics_k=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rollout_temperature": 0.99}, r"--rollout-temperature 0\.99 with an SGLang teacher: it must be 1\.0"),
        ({"rollout_top_p": 0.95}, r"--rollout-top-p 0\.95 with an SGLang teacher: it must be 1\.0"),
        ({"rollout_top_k": 50}, "--rollout-top-k 50 with an SGLang teacher: it must be -1"),
        ({"opd_kl_coef": -0.1}, r"--opd-kl-coef -0\.1 is outside 0 or more"),
        ({"opd_kl_coef": float("inf")}, "--opd-kl-coef inf is outside"),
        ({"opd_kl_coef": float("nan")}, "--opd-kl-coef nan is outside"),
        ({"opd_loss": "jsd"}, "--opd-loss jsd with --loss-type policy_loss: .* policy gradient is zero in expectation"),
        ({"loss_type": "sft_loss"}, "--loss-type sft_loss: .* must be policy_loss"),
        ({"opd_task_reward": "rm"}, "--opd-task-reward rm needs --rm-type"),
        ({"opd_task_reward": "rm", "rm_type": " "}, "--opd-task-reward rm needs --rm-type"),
        ({"opd_token_bank_dir": "bank", "opd_topk_metrics_k": 0}, "--opd-token-bank-dir needs --opd-topk-metrics-k"),
        ({"opd_jsd_beta": 0.2}, r"--opd-jsd-beta 0\.2 does nothing with --opd-loss sampled_token"),
        (
            {"opd_type": "megatron", "opd_budget_mask": "teachability"},
            "--opd-budget-mask teachability with --opd-type megatron",
        ),
        ({"opd_type": "megatron", "opd_budget_mask": "random"}, "--opd-budget-mask random with --opd-type megatron"),
    ],
)
def test_a_setting_under_which_numbers_would_be_wrong_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        check(**values)


def dataset(name, rm_type=None, path=None):
    return SimpleNamespace(name=name, rm_type=rm_type, custom_rm_path=path)


@pytest.mark.parametrize("path", [None, PATHS["custom_rm_path"]])
def test_evaluation_needs_a_judge_that_is_not_the_teacher(path):
    sets = [dataset("aime", path=path), dataset("gsm", "math", path), dataset("mine", path="mine.reward")]
    with pytest.raises(ValueError, match="evaluation of aime needs --rm-type"):
        check(eval_datasets=sets)
    check(eval_datasets=sets, rm_type="math")
    check(eval_datasets=sets[1:])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"--opd-mask-target opd needs slime v0\.3\.0"),
        ({"opd_mask_target": "loss", "opd_normaliser": "selected"}, "--opd-normaliser selected needs slime"),
        ({"opd_mask_target": "loss", "normalize_advantages": True}, "--normalize-advantages with OPD needs slime"),
    ],
)
def test_what_an_older_slime_cannot_do_is_refused(values, message):
    args = old_slime(**values)
    with pytest.raises(ValueError, match=message):
        check_settings(args, slime_options(args))


@pytest.mark.parametrize("values", [{}, {"opd_normaliser": "selected", "calculate_per_token_loss": True}])
def test_what_an_older_slime_can_do_passes(values):
    args = old_slime(opd_mask_target="loss", **values)
    check_tier(args, slime_options(args))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"opd_loss": "jsd"}, "--opd-loss jsd with --loss-type policy_loss"),
        ({"opd_kl_coef": float("nan")}, "--opd-kl-coef nan"),
        ({"loss_type": "custom_loss"}, "--loss-type custom_loss"),
        ({"compute_advantages_and_returns": False}, "--disable-compute-advantages-and-returns"),
        ({"opd_topk_metrics_k": 4}, "--opd-topk-metrics-k 4 does nothing with --opd-type megatron"),
        ({"opd_task_reward": "rm", "rm_type": "math"}, "--opd-task-reward rm does nothing with --opd-type megatron"),
        ({"opd_token_bank_dir": "bank"}, "--opd-token-bank-dir bank does nothing with --opd-type megatron"),
        ({"opd_normaliser": "selected"}, "--opd-normaliser selected does nothing with --opd-type megatron"),
    ],
)
def test_a_megatron_teacher_is_checked_too(values, message):
    with pytest.raises(ValueError, match=message):
        check(**({"opd_type": "megatron", "opd_topk_metrics_k": 0} | values))


@pytest.mark.parametrize("values", [{}, {"opd_type": "megatron", "opd_topk_metrics_k": 0}])
def test_a_plain_run_passes(values):
    check(**values)


def test_a_mask_that_moves_a_terminal_reward_is_refused():
    with pytest.raises(ValueError, match="reinforce_plus_plus"):
        check(opd_mask_target="loss", advantage_estimator="reinforce_plus_plus")
    check(opd_mask_target="opd", advantage_estimator="reinforce_plus_plus")


def test_one_address_may_not_be_both_teacher_and_reward_server():
    with pytest.raises(ValueError, match="name the teacher with --opd-teacher-url"):
        check(rm_type="remote_rm")
    check(rm_type="remote_rm", opd_teacher_url="http://teacher:1/generate")
