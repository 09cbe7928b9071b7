"""What must hold before a run starts: each check says what was given, what is allowed, and why."""

from __future__ import annotations

import http.client
import json
import logging
import math
import urllib.error
import urllib.request
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from slime.rollout.on_policy_distillation import teacher_urls
from slime.utils.opd_versions import PATHS, TRAINER_HOOKS, full_support
from ta_opd.methods import find_selector
from ta_opd.slime_options import SlimeOptions

logger = logging.getLogger(__name__)

_PROBE = "Let f(x) = 3x^2 - 7; then f'(2) = 12.\n\tNaïve café, 北京 2026: <b>1,024</b> ≠ 0.5e-3 🙂"
"""Text that different tokenizers cut differently: digits, spaces, accents, Chinese, an emoji, markup."""


def fill_in_hooks(args: Namespace) -> None:
    """Point slime's hook settings at this patch where the user left them empty: the trainer's where slime has the
    advantage hook, the rollout's where the teacher is a server. Raises ValueError where a hook this patch cannot do
    without is somebody else's."""
    wanted = set(TRAINER_HOOKS) if full_support(args) else set()
    if args.opd_type == "sglang":
        wanted |= set(PATHS) - set(TRAINER_HOOKS)
    for name, path in PATHS.items():
        if name not in wanted:
            continue
        if getattr(args, name) is None:
            setattr(args, name, path)
        elif getattr(args, name) != path:
            flag = f"--{name.replace('_', '-')}"
            if name == "custom_rm_path":
                raise ValueError(f"{flag} {getattr(args, name)}: name your reward with --opd-task-reward instead")
            if name in (*TRAINER_HOOKS, "custom_reward_post_process_path"):
                raise ValueError(f"{flag} {getattr(args, name)} takes the place of {path}, which OPD needs")
            logger.warning("%s is %s; %s", flag, getattr(args, name), _LEFT_OUT[name])


_LEFT_OUT = {
    "custom_generate_function_path": "it must call slime.rollout.opd_generate.record_student_topk after each request",
    "custom_rollout_log_function_path": (
        "let it call slime.rollout.on_policy_distillation.remember_rollout as well, or a resumed run counts from 0"
    ),
}


def check_settings(args: Namespace, options: SlimeOptions) -> None:
    """Raises ValueError for settings under which the numbers would be wrong. Talks to nobody."""
    if args.opd_type == "megatron":
        if find_selector(options.budget_mask).mask != "full":
            raise ValueError(
                f"--opd-budget-mask {options.budget_mask} with --opd-type megatron: token selection reads the "
                "teacher's top-k, which only an SGLang teacher gives; use --opd-type sglang or --opd-budget-mask none"
            )
        return
    for name, needed in (("rollout_temperature", 1.0), ("rollout_top_p", 1.0), ("rollout_top_k", -1)):
        if getattr(args, name, needed) != needed:
            raise ValueError(
                f"--{name.replace('_', '-')} {getattr(args, name)} with an SGLang teacher: it must be {needed}. SGLang "
                "scores given tokens at temperature 1 over the whole vocabulary whatever it is asked, so student and "
                "teacher would be compared under different distributions"
            )
    if not 0 <= args.opd_kl_coef < math.inf:
        raise ValueError(f"--opd-kl-coef {args.opd_kl_coef} is outside 0 or more")
    if options.loss != "sampled_token":
        raise ValueError(f"--opd-loss {options.loss} is not in this version's trainer; it has sampled_token")
    if getattr(args, "loss_type", "policy_loss") != "policy_loss":
        raise ValueError(
            f"--loss-type {args.loss_type}: the OPD term is part of the advantage, so it must be policy_loss"
        )
    if options.task_reward == "rm" and not (args.rm_type or "").strip():
        raise ValueError("--opd-task-reward rm needs --rm-type")
    if getattr(args, "eval_datasets", None) and not (args.rm_type or "").strip():
        # slime hands every dataset the run's own reward, which asks the teacher and judges nothing.
        own = (None, PATHS["custom_rm_path"])
        unjudged = [d.name for d in args.eval_datasets if getattr(d, "custom_rm_path", None) in own and not d.rm_type]
        if unjudged:
            raise ValueError(f"evaluation of {', '.join(unjudged)} needs --rm-type: the teacher is no judge")
    if options.token_bank_dir and options.topk_metrics_k == 0:
        raise ValueError("--opd-token-bank-dir needs --opd-topk-metrics-k above 0; the paper uses 16")
    options.check_read()
    check_tier(args, options)


def check_tier(args: Namespace, options: SlimeOptions) -> None:
    """Raises ValueError for what this version of slime cannot do."""
    if full_support(args):
        return
    if options.mask_target != "loss":
        raise ValueError(
            f"--opd-mask-target {options.mask_target} needs slime v0.3.0 or later; this one has no advantage hook, so "
            "only --opd-mask-target loss works"
        )
    if options.normaliser == "selected" and not args.calculate_per_token_loss:
        raise ValueError("--opd-normaliser selected needs slime v0.3.0 or later, or --calculate-per-token-loss")
    if getattr(args, "normalize_advantages", False):
        raise ValueError(
            "--normalize-advantages with OPD needs slime v0.3.0 or later: slime whitens after the OPD term"
        )


def check_teachers(args: Namespace, options: SlimeOptions, tokenizer: Any) -> None:
    """Each teacher answers, and cuts the same text into the same tokens as the student's tokenizer.

    Raises ValueError naming the URL and what it said. One request with text, no generated token.
    """
    expected = tokenizer.encode(_PROBE, add_special_tokens=False)
    for url in teacher_urls(args, options):
        found = _teacher_tokens(url, options.teacher_request_timeout)
        # A server may put its own first token before the text.
        if found[-len(expected) :] != list(expected):
            raise ValueError(
                f"the teacher at {url} does not share the student's tokenizer ({args.hf_checkpoint}): it reads a probe "
                f"text as {found[:8]}..., the student as {list(expected[:8])}..."
            )


def _teacher_tokens(url: str, timeout: float) -> Sequence[int]:
    body = {
        "text": _PROBE,
        "sampling_params": {"max_new_tokens": 0, "temperature": 1.0},
        "return_logprob": True,
        "logprob_start_len": 0,
    }
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=min(timeout, 60)) as answer:
            return [entry[1] for entry in json.load(answer)["meta_info"]["input_token_logprobs"]]
    except urllib.error.HTTPError as error:
        error.close()
        raise ValueError(
            f"the teacher at {url} answers HTTP {error.code}; --opd-teacher-url is its /generate"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"the teacher at {url} cannot be reached: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the teacher at {url} does not answer as an SGLang server: {error!r}") from error
