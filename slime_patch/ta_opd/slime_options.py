"""The settings that only a run inside slime reads: the mask's target, the task reward, the teacher server."""

from __future__ import annotations

from dataclasses import dataclass

from .option_fields import check_range, flag, option
from .options import NORMALISERS, Options

MASK_TARGETS = ("opd", "loss")
OVERFLOWS = ("fallback", "truncate", "error")
ENTRIES = ("train", "train_async")
WIRES = ("auto", "nested", "flat", "base64")
TOP_K_FORMS = ("tail", "renormalised", "student_full")
OF_A_DENSE_LOSS = ("loss_coef", "loss_top_k_form", "add_sampled_token", "pack_head", "token_loss_dir")
"""Settings that only a loss of whole distributions reads."""


@dataclass(frozen=True)
class SlimeOptions(Options):
    """Options plus what the slime adapters and the teacher client read. Raises ValueError on a value out of range."""

    normaliser: str = option(
        "sample", "slime's own mean over selected tokens, or one mean over all selected tokens", NORMALISERS
    )
    mask_target: str = option("opd", "what the mask acts on: the OPD term, or the sample's loss mask", MASK_TARGETS)
    task_reward: str = option("none", "task reward of training: none, rm (slime's --rm-type), or module.function")

    loss_coef: float = option(1.0, "weight of a loss of whole distributions beside slime's policy loss")
    add_sampled_token: bool = option(
        False, "add sampled-token OPD, weighed by --opd-kl-coef, to a loss of whole distributions"
    )
    loss_top_k_form: str = option(
        "tail", "a top-k loss: with one bucket for the rest, renormalised, or the student left whole", TOP_K_FORMS
    )
    pack_head: bool = option(
        False, "run the student's output layer on selected rows alone; only without slime's policy loss"
    )
    token_loss_dir: str = option(
        "", "where the trainer writes what its loss is at each token; the token bank's directory is fine"
    )

    exact_cmass: bool = option(False, "ask the teacher for its log-probs at the student's top-k: exact C")
    exact_cmass_max_union: int = option(4096, "most ids asked for at once; long responses lower it")
    exact_cmass_overflow: str = option(
        "fallback", "a larger union: keep the lower bound, ask its most frequent ids, or fail the sample", OVERFLOWS
    )

    teacher_url: str = option("", "/generate URLs of the teacher, comma-separated; empty: --rm-url")
    teacher_concurrency: int = option(64, "requests in flight at each teacher")
    teacher_request_timeout: float = option(300.0, "seconds for one attempt")
    teacher_timeout: float = option(1800.0, "seconds for a sample, all attempts and waiting together")
    teacher_attempts: int = option(6, "attempts at transport errors, 429 and 5xx; others are not retried")
    teacher_wire: str = option("auto", "form of the log-probs asked for; auto: the most compact that is offered", WIRES)
    teacher_quarantine: str = option("", "JSONL file of failed requests; empty: quarantine.jsonl in the token bank")
    max_missing: float = option(0.05, "share of a rollout's valid tokens without a signal above which the run stops")
    entry: str = option("train", "slime's training entry that train_opd.py starts", ENTRIES)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("exact_cmass_max_union", "teacher_concurrency", "teacher_attempts"):
            check_range(self, name, 1)
        for name in ("teacher_request_timeout", "teacher_timeout"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{flag(name)} {getattr(self, name)} must be above 0")
        check_range(self, "max_missing", 0, 1)
        if not 0 <= self.loss_coef < float("inf"):
            raise ValueError(f"{flag('loss_coef')} {self.loss_coef} is outside 0 or more")
        if self.exact_cmass and self.topk_metrics_k == 0:
            raise ValueError("--opd-exact-cmass needs --opd-topk-metrics-k above 0; the paper uses 16")
