"""One dataclass for flags, YAML and defaults. Field `budget_ratio` is the flag `--opd-budget-ratio`.

The selection flags keep the names and, but for the token bank's format, the defaults of the released TA-OPD.
"""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from .methods import LOSSES, READ_BY, find_selector
from .schedules import check_taid
from .scores import VARIANTS
from .selection import BUDGET_SCOPES, NORMALISATIONS, check_ratio

PROXIES = ("mass", "set", "jaccard", "bc", "prefix_ema")
NORMALISERS = ("selected", "sample")
GATES = ("hard_add", "sigmoid", "h_max")
TAID_SPACES = ("logit", "prob")
TAID_DIVERGENCES = ("forward_kl", "reverse_kl", "jsd")
BANK_FORMATS = ("parquet", "csv", "jsonl")


def _option(default: Any, help: str, choices: tuple[str, ...] | None = None, kind: type | None = None) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "type": kind or type(default)})


@dataclass(frozen=True)
class Options:
    """Every setting of token selection, losses and the token bank. Raises ValueError on a value out of range."""

    topk_metrics_k: int = _option(0, "K, entries of each top-k support; 0 leaves the scores out")
    budget_mask: str = _option("none", "selector: which tokens are distilled")
    budget_ratio: float = _option(1.0, "retention ratio rho: exactly ceil(rho N) tokens are kept")
    budget_scope: str = _option("batch", "N counts the whole rollout batch, or each sample", BUDGET_SCOPES)
    budget_gamma: float = _option(0.5, "share of a split budget that goes by entropy")
    budget_mask_seed: int = _option(42, "seed of the random selector, joined with the rollout id")
    budget_min_keep_per_sample: int = _option(1, "tokens each sample gets first; swapped in, never added")
    score_variant: str = _option("paper", "the paper's definitions or the released code's", VARIANTS)
    compat_proxy: str = _option("mass", "what stands for compatibility C", PROXIES)
    compat_prefix_ema_alpha: float = _option(0.9, "decay of the prefix EMA proxy")
    metric_normalization: str = _option("batch_quantile", "how H, D and C become [0, 1]", NORMALISATIONS)
    metric_q_low: float = _option(0.05, "lower quantile of batch_quantile")
    metric_q_high: float = _option(0.95, "upper quantile of batch_quantile")

    loss: str = _option("sampled_token", "the distillation loss", tuple(LOSSES))
    normaliser: str = _option("selected", "mean over selected tokens, or mean of per-sample means", NORMALISERS)
    jsd_beta: float = _option(0.5, "generalized JSD: 0 is KL(T||S), 1 is KL(S||T)")
    loss_temperature: float = _option(1.0, "temperature of both distributions in a dense loss")
    loss_top_k: int = _option(0, "teacher's top-k of a forward KL or JSD; 0 is the full vocabulary")
    jsd_token_clip: float = _option(0.0, "cap on each vocabulary entry of a JSD; 0 is no cap")
    taid_space: str = _option("logit", "where TAID interpolates", TAID_SPACES)
    taid_divergence: str = _option("forward_kl", "TAID's divergence to the interpolated teacher", TAID_DIVERGENCES)
    taid_t_start: float = _option(0.4, "TAID's first t")
    taid_t_end: float = _option(1.0, "TAID's last t")
    taid_alpha: float = _option(5e-4, "step size of TAID's adaptive schedule; 0 leaves the linear one")
    taid_beta: float = _option(0.99, "momentum of TAID's adaptive schedule")
    entropy_gate: str = _option("hard_add", "entropy-aware OPD's gate", GATES)
    entropy_tau: float = _option(0.8, "teacher entropy, nats, above which the gate opens")
    entropy_alpha: float = _option(1.0, "weight of the forward KL behind an open hard_add gate")
    entropy_width: float = _option(0.2, "width, nats, of the sigmoid gate")
    entropy_h_max: float = _option(0.0, "teacher entropy, nats, at which the h_max gate is 1; 0 is log V")

    token_bank_dir: str = _option("", "where per-token tables are written; empty writes none")
    token_bank_format: str = _option("parquet", "format of the per-token tables", BANK_FORMATS)
    token_bank_raw_topk: bool = _option(False, "keep both raw top-k lists in the token bank")
    token_bank_pair_id: str = _option("", "name of the teacher-student pair in the token bank")
    teacher_name: str = _option("", "teacher's name in the token bank")
    student_name: str = _option("", "student's name in the token bank")

    def __post_init__(self) -> None:
        for f in fields(self):
            value, kind, choices = getattr(self, f.name), f.metadata["type"], f.metadata["choices"]
            if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
                object.__setattr__(self, f.name, float(value))
            elif kind is str and value is None and not f.default:
                object.__setattr__(self, f.name, "")
            elif not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise ValueError(f"{flag(f.name)} takes {_a(kind)}; got {value!r}")
            if choices and value not in choices:
                raise ValueError(f"{flag(f.name)} {value!r} is not one of {', '.join(choices)}")
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
            if not least <= getattr(self, name) <= most:
                bound = f"{least}..{most}" if most != math.inf else f"{least} or more"
                raise ValueError(f"{flag(name)} {getattr(self, name)} is outside {bound}")
        if not 0 <= self.compat_prefix_ema_alpha < 1:
            name = flag("compat_prefix_ema_alpha")
            raise ValueError(f"{name} {self.compat_prefix_ema_alpha} is outside 0..1 (1 excluded)")
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

    @staticmethod
    def from_mapping(values: Mapping[str, Any]) -> Options:
        """From YAML keys, with or without the leading `opd_`. An unknown key is a ValueError naming the nearest."""
        known = {f.name for f in fields(Options)}
        given = {}
        for key, value in values.items():
            name = key.removeprefix("--").replace("-", "_").removeprefix("opd_")
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean opd_{near[0]}?" if near else ""
                raise ValueError(f"unknown option {key!r}{hint}")
            if name in given:
                raise ValueError(f"option {key!r} is given twice, with and without opd_")
            given[name] = value
        return Options(**given)

    @staticmethod
    def from_namespace(args: argparse.Namespace) -> Options:
        """From parsed arguments whose attributes are `opd_<field>`; attributes that are absent keep their default."""
        names = [f.name for f in fields(Options)]
        return Options(**{name: getattr(args, f"opd_{name}") for name in names if hasattr(args, f"opd_{name}")})


def flag(name: str) -> str:
    """budget_ratio -> --opd-budget-ratio"""
    return "--opd-" + name.replace("_", "-")


def add_arguments(parser: argparse.ArgumentParser, leave_out: tuple[str, ...] = (), **defaults: Any) -> None:
    """Register every option as its flag, booleans as switches; `defaults` stand in for the options' own."""
    group = parser.add_argument_group("on-policy distillation")
    for f in fields(Options):
        if f.name in leave_out:
            continue
        assert f.default is not MISSING
        kind, default = f.metadata["type"], defaults.get(f.name, f.default)
        shown = f"{f.metadata['help']} (default: {default if default != '' else 'none'})"
        if kind is bool:
            group.add_argument(flag(f.name), action="store_true", default=default, help=shown)
        else:
            group.add_argument(flag(f.name), type=kind, default=default, choices=f.metadata["choices"], help=shown)


def _a(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[kind]
