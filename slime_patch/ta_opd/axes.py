"""The batch's axes: raw scores of the valid tokens, and the same normalised to [0, 1] over the batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .scores import TokenScores, prefix_ema
from .selection import Bools, Floats, normalise

if TYPE_CHECKING:
    from .options import Options


@dataclass(frozen=True)
class Axes:
    """Arrays [N] over the valid tokens of a batch (or of one sample of it).

    raw: "H" entropy, "D" disagreement, "C" compatibility or its proxy, "R" reverse KL; NaN where missing.
    unit: the same letters in lower case, normalised to [0, 1] over the batch; "dc" is the normalised D * C;
    "h_tip", "r_tip" are TIP's min-max axes. uniform: the random selector's keys, one per token whatever the method.
    median: of the unit axes h and d. degenerate: names of the axes without spread.
    """

    uniform: np.ndarray
    raw: dict[str, Floats] = field(default_factory=dict)
    unit: dict[str, Floats] = field(default_factory=dict)
    median: dict[str, float] = field(default_factory=dict)
    degenerate: tuple[str, ...] = ()
    released: bool = False
    gamma: float = 0.5

    def __len__(self) -> int:
        return len(self.uniform)

    def rows(self, rows: slice) -> Axes:
        return replace(
            self,
            uniform=self.uniform[rows],
            raw={name: values[rows] for name, values in self.raw.items()},
            unit={name: values[rows] for name, values in self.unit.items()},
        )

    def finite(self, names: Iterable[str]) -> Bools:
        """bool [N]: all of these raw axes are known."""
        known = np.ones(len(self), dtype=bool)
        for name in names:
            known &= np.isfinite(self.raw[name])
        return known

    @property
    def learnable(self) -> Floats:
        """D^L: Norm(D) * Norm(C) as in the paper; the released ca_softor takes Norm(D * C) for it."""
        return self.unit["dc"] if self.released else self.unit["d"] * self.unit["c"]

    @property
    def quadrant(self) -> np.ndarray:
        """int8 [N]: 1 high H high D, 2 high H low D, 3 low H high D, 4 low H low D, split at the medians; 0 unknown."""
        high_h, high_d = self.unit["h"] >= self.median["h"], self.unit["d"] >= self.median["d"]
        quadrant = np.where(high_h, np.where(high_d, 1, 2), np.where(high_d, 3, 4)).astype(np.int8)
        quadrant[~self.finite("HD")] = 0
        return quadrant


def build_axes(
    scores: TokenScores,
    valid: Tensor,
    lengths: Tensor,
    options: Options,
    names: Iterable[str],
    uniform: np.ndarray,
) -> Axes:
    """The named unit axes ("h", "d", "c", "dc", "h_tip", "r_tip") of the valid tokens and the raw axes they come from.

    scores: N tokens; valid: bool [N]; lengths: integer [B], sums to N. Quantiles and medians are taken over the valid
    tokens; the released variant takes them over all, and reads a score that is not finite as 0 there.
    """
    names, released = set(names), options.score_variant == "released"
    inside = np.flatnonzero(valid.numpy())
    whole: dict[str, Floats] = {}
    if names & {"h", "h_tip"}:
        whole["H"] = scores.entropy.numpy()
    if names & {"d", "dc"}:
        whole["D"] = scores.disagreement.numpy()
    if names & {"c", "dc"}:
        whole["C"] = compatibility_axis(scores, valid, lengths, options).numpy()
    if "r_tip" in names:
        whole["R"] = scores.reverse_kl.numpy()
    everything = len(inside) == len(valid)
    raw = {name: values if everything else values[inside] for name, values in whole.items()}

    def normalised(values: Floats, mode: str):
        if released:
            population = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        else:
            population = values if everything else values[inside]
        return normalise(population, None, mode, options.metric_q_low, options.metric_q_high)

    unit, median, degenerate = {}, {}, []
    for name in sorted(names):
        if name == "h_tip":
            source = np.minimum(whole["H"], _quantile(raw["H"], 0.98))
        elif name == "dc":
            source = whole["D"] * whole["C"]
        else:
            source = whole[name[0].upper()]
        result = normalised(source, "batch_minmax" if name.endswith("_tip") else options.metric_normalization)
        if name in ("h", "d"):
            known = result.values[np.isfinite(result.values)]
            median[name] = float(np.median(known)) if len(known) else 0.0
        values = result.values
        if released:
            values = values[inside]
            values[~np.isfinite(source[inside])] = np.nan
        unit[name] = values
        if result.degenerate:
            degenerate.append(name)
    return Axes(uniform, raw, unit, median, tuple(degenerate), released, options.budget_gamma)


def compatibility_axis(scores: TokenScores, valid: Tensor, lengths: Tensor, options: Options) -> Tensor:
    """C or the proxy that --opd-compat-proxy names, float32 [N]."""
    if options.compat_proxy == "prefix_ema":
        return prefix_ema(scores.compatibility, lengths, valid, options.compat_prefix_ema_alpha)
    return {
        "mass": scores.compatibility,
        "set": scores.overlap,
        "jaccard": scores.jaccard,
        "bc": scores.bhattacharyya,
    }[options.compat_proxy].to(torch.float32)


def _quantile(values: Floats, q: float) -> float:
    finite = values[np.isfinite(values)]
    return float(np.quantile(finite, q)) if len(finite) else 0.0
