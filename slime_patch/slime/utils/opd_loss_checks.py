"""What the settings of a loss must be: where it stands, what it reads, in which form. Talks to nobody."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields, replace

from slime.utils.opd_versions import LOSS_PATH, full_support
from ta_opd.loss_plan import has_sampled_term, is_dense, lists_of
from ta_opd.losses import LOSSES
from ta_opd.option_fields import flag
from ta_opd.slime_options import OF_A_DENSE_LOSS, SlimeOptions


def fill_in_loss(args: Namespace, options: SlimeOptions, words: Sequence[str]) -> None:
    """Point slime's loss at this patch's for a loss of whole distributions, unless the words of the command line name
    one."""
    if not is_dense(options):
        return
    named = any(word.partition("=")[0] == "--loss-type" for word in words)
    if not named and getattr(args, "loss_type", None) in (None, "policy_loss"):
        args.loss_type = "custom_loss"
    if args.loss_type == "custom_loss" and getattr(args, "custom_loss_function_path", None) is None:
        args.custom_loss_function_path = LOSS_PATH


def check_loss(args: Namespace, options: SlimeOptions) -> None:
    """Raises ValueError for a loss in the wrong place, or settings of it that do nothing or cannot be computed."""
    # A top-k loss of any kind takes its K from --opd-loss-top-k here; outside slime only some losses read it.
    (replace(options, loss_top_k=0) if is_dense(options) else options).check_read()
    given = getattr(args, "loss_type", None) or "policy_loss"
    if not is_dense(options):
        if given != "policy_loss":
            raise ValueError(f"--loss-type {given}: the OPD term is in the advantage, so it must be policy_loss")
        for f in fields(options):
            if f.name in OF_A_DENSE_LOSS and getattr(options, f.name) != f.default:
                raise ValueError(
                    f"{flag(f.name)} {getattr(options, f.name)} does nothing with --opd-loss {options.loss}"
                )
        return
    if not full_support(args):
        raise ValueError(f"--opd-loss {options.loss} needs slime v0.3.0 or later; this one has no advantage hook")
    if given != "custom_loss":
        raise ValueError(
            f"--opd-loss {options.loss} with --loss-type {given}: a divergence of whole distributions is the same "
            "whichever token was sampled, so as an advantage its policy gradient is zero in expectation; it is a loss "
            f"of its own: --loss-type custom_loss --custom-loss-function-path {LOSS_PATH}"
        )
    path = getattr(args, "custom_loss_function_path", None)
    if path != LOSS_PATH:
        raise ValueError(f"--custom-loss-function-path {path} takes the place of {LOSS_PATH}, which OPD needs")
    if getattr(args, "qkv_format", "thd") != "thd":
        raise ValueError(f"--qkv-format {args.qkv_format} with --opd-loss {options.loss}: it must be thd")
    check_top_k(args, options)
    check_packed_head(args, options)


def check_packed_head(args: Namespace, options: SlimeOptions) -> None:
    """Raises ValueError for --opd-pack-head where something but the loss reads logits, or reads the head's input."""
    if not options.pack_head:
        return
    if has_policy_loss(args, options):
        raise ValueError(
            "--opd-pack-head with slime's policy loss, which reads the logits of every response token: it is left out "
            "for an SGLang teacher, --opd-task-reward none, a loss without the sampled-token term, no replayed "
            "rollouts, --kl-coef 0, --entropy-coef 0, no --use-kl-loss and an estimator other than ppo"
        )
    for name, why in _NOT_WITH_A_PACKED_HEAD.items():
        if getattr(args, name, False):
            raise ValueError(f"--opd-pack-head with --{name.replace('_', '-')}: {why}")


_NOT_WITH_A_PACKED_HEAD = {
    "enable_mtp_training": "multi-token prediction reads the head's input and output at every token",
    "overlap_moe_expert_parallel_comm": "the forwards of two micro-batches are interleaved, so that which rows the "
    "head is to see next is not known",
    "defer_embedding_wgrad_compute": "the head's weight gradients wait in buffers of one size",
}


def has_policy_loss(args: Namespace, options: SlimeOptions) -> bool:
    """Whether slime's policy loss can be other than zero, decided by settings, so that every micro-batch of every rank
    logs the same numbers. Without it slime's softmax over [T, V'] is not computed: its advantages are zero when there
    is no sampled-token term, no task reward, no KL in the rewards and no critic, and it has no other term without
    --entropy-coef and --use-kl-loss. Rewards of a Megatron teacher's run and of replayed rollouts are not ours, and
    count as other than zero."""
    return (
        has_sampled_term(options)
        or options.task_reward != "none"
        or args.opd_type != "sglang"
        or getattr(args, "load_debug_rollout_data", None) is not None
        or args.advantage_estimator == "ppo"
        or args.kl_coef != 0
        or args.entropy_coef != 0
        or args.use_kl_loss
    )


def check_top_k(args: Namespace, options: SlimeOptions) -> None:
    """Raises ValueError for a top-k loss without a K, or in a form that the loss does not have."""
    k = lists_of(options)
    if k == 0:
        if args.opd_type == "sglang":
            raise ValueError(
                f"--opd-loss {options.loss} with an SGLang teacher reads the teacher's top-k: it needs "
                "--opd-loss-top-k or --opd-topk-metrics-k above 0"
            )
        if options.loss_top_k_form != "tail":
            raise ValueError(f"--opd-loss-top-k-form {options.loss_top_k_form} does nothing without --opd-loss-top-k")
        return
    if options.loss_top_k_form == "student_full" and not (
        options.loss == "forward_kl" or (options.loss == "entropy_aware" and options.entropy_gate == "hard_add")
    ):
        raise ValueError(
            "--opd-loss-top-k-form student_full is a form of KL(T || S): it goes with --opd-loss forward_kl, and with "
            f"entropy_aware under --opd-entropy-gate hard_add; not with {options.loss}"
        )
    if LOSSES[options.loss].gated and options.loss_temperature != 1:
        raise ValueError(
            f"--opd-loss-temperature {options.loss_temperature} with --opd-loss {options.loss} on a top-{k}: the "
            "teacher's entropy, which the gate reads, comes at temperature 1"
        )
    if options.loss_temperature != 1 and options.loss_top_k_form == "tail":
        raise ValueError(
            f"--opd-loss-temperature {options.loss_temperature} with the teacher's top-{k}: the mass outside a list is "
            "known at temperature 1 alone; use another --opd-loss-top-k-form than tail"
        )
