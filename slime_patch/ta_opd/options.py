"""Every setting of selection, losses and the token bank: one dataclass for flags, YAML and defaults.

The selection flags keep the names and, but for the token bank's format, the defaults of the released TA-OPD.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from .losses import LOSSES, READ_BY
from .methods import find_selector
from .option_fields import add_flags, check_range, check_types, field_values, flag, namespace_values, option
from .schedules import check_taid
from .scores import VARIANTS
from .selection import BUDGET_SCOPES, NORMALISATIONS, check_ratio

PROXIES = ("mass", "set", "jaccard", "bc", "prefix_ema")
NORMALISERS = ("selected", "sample")
GATES = ("hard_add", "sigmoid", "h_max")
TAID_SPACES = ("logit", "prob")
TAID_DIVERGENCES = ("forward_kl", "reverse_kl", "jsd")
BANK_FORMATS = ("parquet", "csv", "jsonl")


AnyOptions = TypeVar("AnyOptions", bound="Options")


@dataclass(frozen=True)
class Options:
    """Every setting of token selection, losses and the token bank. Raises ValueError on a value out of range."""

    topk_metrics_k: int = option(0, "K, entries of each top-k support; 0 leaves the scores out")
    budget_mask: str = option("none", "selector: which tokens are distilled")
    budget_ratio: float = option(1.0, "retention ratio rho: exactly ceil(rho N) tokens are kept")
    budget_scope: str = option("batch", "N counts the whole rollout batch, or each sample", BUDGET_SCOPES)
    budget_gamma: float = option(0.5, "share of a split budget that goes by entropy")
    budget_mask_seed: int = option(42, "seed of the random selector, joined with the rollout id")
    budget_min_keep_per_sample: int = option(1, "tokens each sample gets first; swapped in, never added")
    score_variant: str = option("paper", "the paper's definitions or the released code's", VARIANTS)
    compat_proxy: str = option("mass", "what stands for compatibility C", PROXIES)
    compat_prefix_ema_alpha: float = option(0.9, "decay of the prefix EMA proxy")
    metric_normalization: str = option("batch_quantile", "how H, D and C become [0, 1]", NORMALISATIONS)
    metric_q_low: float = option(0.05, "lower quantile of batch_quantile")
    metric_q_high: float = option(0.95, "upper quantile of batch_quantile")

    loss: str = option("sampled_token", "the distillation loss", tuple(LOSSES))
    normaliser: str = option("selected", "mean over selected tokens, or mean of per-sample means", NORMALISERS)
    jsd_beta: float = option(0.5, "generalized JSD: 0 is KL(T||S), 1 is KL(S||T)")
    skew_alpha: float = option(0.1, "skew KL: share of its first side in the mixture; 0 is the plain KL")
    loss_temperature: float = option(1.0, "temperature of both distributions in a dense loss")
    loss_top_k: int = option(0, "teacher's top-k that a loss reads; 0 is the full vocabulary")
    jsd_token_clip: float = option(0.0, "cap on each vocabulary entry of a JSD; 0 is no cap")
    taid_space: str = option("logit", "where TAID interpolates", TAID_SPACES)
    taid_divergence: str = option("forward_kl", "TAID's divergence to the interpolated teacher", TAID_DIVERGENCES)
    taid_t_start: float = option(0.4, "TAID's first t")
    taid_t_end: float = option(1.0, "TAID's last t")
    taid_alpha: float = option(5e-4, "step size of TAID's adaptive schedule; 0 leaves the linear one")
    taid_beta: float = option(0.99, "momentum of TAID's adaptive schedule")
    entropy_gate: str = option("hard_add", "entropy-aware OPD's gate", GATES)
    entropy_tau: float = option(0.8, "teacher entropy, nats, above which the gate opens")
    entropy_alpha: float = option(1.0, "weight of the forward KL behind an open hard_add gate")
    entropy_width: float = option(0.2, "width, nats, of the sigmoid gate")
    entropy_h_max: float = option(0.0, "teacher entropy, nats, at which the h_max gate is 1; 0 is log V")

    token_bank_dir: str = option("", "where per-token tables are written; empty writes none")
    token_bank_format: str = option("parquet", "format of the per-token tables", BANK_FORMATS)
    token_bank_raw_topk: bool = option(False, "keep both raw top-k lists in the token bank")
    token_bank_pair_id: str = option("", "name of the teacher-student pair in the token bank")
    teacher_name: str = option("", "teacher's name in the token bank")
    student_name: str = option("", "student's name in the token bank")

    def __post_init__(self) -> None:
        check_types(self)
        selector = find_selector(self.budget_mask)
        check_ratio(self.budget_ratio)
        if selector.mask == "full":
            object.__setattr__(self, "budget_ratio", 1.0)
        for name, least, most in (
            ("topk_metrics_k", 0, math.inf),
            ("budget_gamma", 0, 1),
            ("budget_min_keep_per_sample", 0, math.inf),
            ("metric_q_low", 0, 1),
            ("metric_q_high", 0, 1),
            ("jsd_beta", 0, 1),
            ("loss_top_k", 0, math.inf),
            ("jsd_token_clip", 0, math.inf),
            ("entropy_tau", 0, math.inf),
            ("entropy_alpha", 0, math.inf),
            ("entropy_h_max", 0, math.inf),
        ):
            check_range(self, name, least, most)
        if not 0 <= self.compat_prefix_ema_alpha < 1:
            name = flag("compat_prefix_ema_alpha")
            raise ValueError(f"{name} {self.compat_prefix_ema_alpha} is outside 0..1 (1 excluded)")
        if not 0 <= self.skew_alpha < 1:
            raise ValueError(f"--opd-skew-alpha {self.skew_alpha} is outside 0..1 (1 excluded)")
        for name in ("loss_temperature", "entropy_width"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{flag(name)} {getattr(self, name)} must be above 0")
        if not self.metric_q_low < self.metric_q_high:
            raise ValueError(
                f"--opd-metric-q-low {self.metric_q_low} must be below --opd-metric-q-high {self.metric_q_high}"
            )
        if selector.axes and self.topk_metrics_k == 0:
            raise ValueError(
                f"--opd-budget-mask {self.budget_mask} needs --opd-topk-metrics-k above 0; the paper uses 16"
            )
        check_taid(self.taid_t_start, self.taid_t_end, self.taid_alpha, self.taid_beta)

    def check_read(self) -> None:
        """Raises ValueError for a loss option that was set although the chosen loss does not read it."""
        for f in fields(self):
            losses = READ_BY.get(f.name)
            if losses and self.loss not in losses and getattr(self, f.name) != f.default:
                raise ValueError(
                    f"{flag(f.name)} {getattr(self, f.name)} does nothing with --opd-loss {self.loss}; "
                    f"it is read by {', '.join(losses)}"
                )
        beta = next(f for f in fields(self) if f.name == "jsd_beta")
        if LOSSES[self.loss].interpolated and self.taid_divergence != "jsd" and self.jsd_beta != beta.default:
            raise ValueError(
                f"--opd-jsd-beta {self.jsd_beta} does nothing with --opd-taid-divergence {self.taid_divergence}; it is "
                "read by jsd"
            )

    @classmethod
    def from_mapping(cls: type[AnyOptions], values: Mapping[str, Any]) -> AnyOptions:
        """From YAML keys, with or without the leading `opd_`. An unknown key is a ValueError naming the nearest."""
        return cls(**field_values(cls, values))

    @classmethod
    def from_namespace(cls: type[AnyOptions], args: argparse.Namespace) -> AnyOptions:
        """From parsed arguments whose attributes are `opd_<field>`; attributes that are absent keep their default."""
        return cls(**namespace_values(cls, args))


def add_arguments(parser: argparse.ArgumentParser, leave_out: tuple[str, ...] = (), **defaults: Any) -> None:
    """Register every option as its flag, booleans as switches; `defaults` stand in for the options' own."""
    add_flags(parser, Options, leave_out, **defaults)
