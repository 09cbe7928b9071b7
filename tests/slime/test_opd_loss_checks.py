"""Where a loss of whole distributions may stand, and in which form."""

import pytest
from slime.utils.opd_checks import check_settings
from slime.utils.opd_loss_checks import fill_in_loss
from slime.utils.opd_settings import slime_options
from slime.utils.opd_versions import LOSS_PATH

from .rollouts import arguments


def dense(**values):
    place = {"loss_type": "custom_loss", "custom_loss_function_path": LOSS_PATH, "opd_loss": "jsd"}
    return arguments(**place | values)


WITHOUT_POLICY_LOSS = {"opd_pack_head": True, "kl_coef": 0.0, "entropy_coef": 0.0, "use_kl_loss": False}


def check(**values):
    args = dense(**values)
    check_settings(args, slime_options(args))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"opd_loss": "reverse_kl", "opd_loss_top_k": 8},
        {"opd_loss": "taid", "opd_loss_top_k": 8, "opd_topk_metrics_k": 0},
        {"opd_loss": "forward_kl", "opd_loss_top_k_form": "student_full"},
        {"opd_loss": "entropy_aware", "opd_loss_top_k_form": "student_full", "opd_loss_coef": 0.5},
        {"opd_loss_top_k_form": "renormalised", "opd_loss_temperature": 2.0},
        {"opd_type": "megatron", "opd_topk_metrics_k": 0, "opd_loss_temperature": 2.0},
        {"opd_type": "megatron", "opd_topk_metrics_k": 0, "opd_loss_top_k": 64},
        {"opd_loss": "skew_reverse_kl", "opd_skew_alpha": 0.2},
        {"opd_loss": "taid_entropy_aware", "opd_entropy_gate": "sigmoid", "opd_taid_divergence": "jsd"},
        {"calculate_per_token_loss": True, "opd_normaliser": "selected", "qkv_format": "thd"},
        {"opd_budget_mask": "teachability", "opd_budget_ratio": 0.1, "opd_mask_target": "loss"},
        {"opd_budget_mask": "teachability", "opd_budget_ratio": 0.1, **WITHOUT_POLICY_LOSS},
        {"opd_token_loss_dir": "bank", "opd_token_bank_dir": "bank"},
        {"opd_loss": "taid", "opd_taid_divergence": "jsd", "opd_jsd_beta": 0.3},
    ],
)
def test_good_settings_pass(values):
    check(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"loss_type": "policy_loss"},
            "is the same whichever token was sampled, so as an advantage its",
        ),
        ({"loss_type": "sft_loss"}, "--opd-loss jsd with --loss-type sft_loss"),
        ({"custom_loss_function_path": "mine.loss"}, "--custom-loss-function-path mine.loss takes the place of slime"),
        ({"custom_loss_function_path": None}, "--custom-loss-function-path None takes the place"),
        ({"opd_topk_metrics_k": 0}, "it needs --opd-loss-top-k or --opd-topk-metrics-k above 0"),
        ({"opd_loss_top_k_form": "student_full"}, r"--opd-loss-top-k-form student_full is a form of KL\(T \|\| S\)"),
        (
            {"opd_loss": "entropy_aware", "opd_entropy_gate": "sigmoid", "opd_loss_top_k_form": "student_full"},
            "not with entropy_aware",
        ),
        (
            {
                "opd_type": "megatron",
                "opd_topk_metrics_k": 0,
                "opd_loss": "taid_entropy_aware",
                "opd_loss_top_k": 8,
                "opd_loss_top_k_form": "renormalised",
                "opd_loss_temperature": 2.0,
            },
            "entropy, which the gate reads, comes at temperature 1",
        ),
        ({"opd_type": "megatron"}, "--opd-topk-metrics-k 4 does nothing with --opd-type megatron"),
        ({"opd_loss_temperature": 2.0}, "the mass outside a list is known at temperature 1 alone"),
        ({"opd_loss_coef": -1.0}, r"--opd-loss-coef -1\.0 is outside 0 or more"),
        ({"opd_loss_coef": float("nan")}, "--opd-loss-coef nan is outside"),
        ({"opd_entropy_tau": 0.1}, r"--opd-entropy-tau 0\.1 does nothing with --opd-loss jsd"),
        ({"opd_task_reward": "rm", "rm_type": "f1", **WITHOUT_POLICY_LOSS}, "--opd-pack-head with slime's policy loss"),
        ({**WITHOUT_POLICY_LOSS, "entropy_coef": 0.1}, "which reads the logits of every response token"),
        ({**WITHOUT_POLICY_LOSS, "use_kl_loss": True}, "--opd-pack-head with slime's policy loss"),
        ({"opd_add_sampled_token": True, **WITHOUT_POLICY_LOSS}, "--opd-pack-head with slime's policy loss"),
        (
            {"enable_mtp_training": True, **WITHOUT_POLICY_LOSS},
            "--opd-pack-head with --enable-mtp-training: multi-token prediction reads",
        ),
        (
            {"overlap_moe_expert_parallel_comm": True, **WITHOUT_POLICY_LOSS},
            "which rows the head is to see next is not",
        ),
        ({"defer_embedding_wgrad_compute": True, **WITHOUT_POLICY_LOSS}, "wait in buffers of one size"),
        (
            {"opd_loss": "taid", "opd_jsd_beta": 0.3},
            r"--opd-jsd-beta 0\.3 does nothing with --opd-taid-divergence forward_kl; it is read by jsd",
        ),
        ({"qkv_format": "bshd"}, "--qkv-format bshd with --opd-loss jsd: it must be thd"),
        (
            {"opd_type": "megatron", "opd_topk_metrics_k": 0, "opd_loss_top_k_form": "renormalised"},
            "does nothing without --opd-loss-top-k",
        ),
    ],
)
def test_what_could_not_be_computed_or_would_do_nothing_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        check(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"opd_loss_coef": 0.5},
        {"opd_loss_top_k_form": "renormalised"},
        {"opd_add_sampled_token": True},
        {"opd_pack_head": True},
        {"opd_token_loss_dir": "bank"},
    ],
)
def test_the_sampled_token_refuses_what_only_other_losses_read(values):
    with pytest.raises(ValueError, match="does nothing with --opd-loss sampled_token"):
        check(opd_loss="sampled_token", loss_type="policy_loss", **values)


def test_an_older_slime_is_refused():
    args = dense(opd_mask_target="loss")
    del args.custom_advantage_function_path
    with pytest.raises(ValueError, match=r"--opd-loss jsd needs slime v0\.3\.0"):
        check_settings(args, slime_options(args))


@pytest.mark.parametrize("loss_type", ["policy_loss", None, "custom_loss"])
def test_a_place_left_empty_is_filled_in(loss_type):
    args = dense(loss_type=loss_type, custom_loss_function_path=None)
    fill_in_loss(args, slime_options(args), ["--opd-loss", "jsd"])
    assert (args.loss_type, args.custom_loss_function_path) == ("custom_loss", LOSS_PATH)


def test_what_the_user_named_stays():
    args = dense(loss_type="policy_loss", custom_loss_function_path=None)
    fill_in_loss(args, slime_options(args), ["--loss-type=policy_loss"])
    assert args.loss_type == "policy_loss" and args.custom_loss_function_path is None
    args = dense(custom_loss_function_path="mine.loss")
    fill_in_loss(args, slime_options(args), [])
    assert args.custom_loss_function_path == "mine.loss"
    args = arguments(loss_type="policy_loss", custom_loss_function_path=None)
    fill_in_loss(args, slime_options(args), [])
    assert args.loss_type == "policy_loss" and args.custom_loss_function_path is None
