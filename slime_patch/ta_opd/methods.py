"""The one table of selectors: a method's name on the command line to how it ranks tokens.

Letters of the formulas: h, d, c are H, D, C normalised over the batch; q is D^L (d c; the released variant Norm(D C)).
Ties go by the method's raw score, since 5% of each axis lie at 1 and 5% at 0, then by (sample, position); the released
variant goes by position alone. Names and masks: the released TA-OPD.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .axes import Axes
from .scores import soft_or
from .selection import Floats, Ranking, select_top

Score = Callable[[Axes], Floats]


@dataclass(frozen=True)
class Selector:
    """One way to rank tokens.

    name: the method as users type it. mask: its name in the token bank and on --opd-budget-mask. aliases: accepted
    for either. rank: (axes of a batch or sample, n) to a Ranking. axes: the unit axes it reads. scope: forces a
    budget scope. round_down: n is max(1, floor(rho N)).
    """

    name: str
    mask: str
    aliases: tuple[str, ...]
    formula: str
    rank: Callable[[Axes, int], Ranking]
    axes: tuple[str, ...] = ()
    scope: str | None = None
    round_down: bool = False


def _by(score: Score, raw: Score, where: Callable[[Axes], np.ndarray] | None = None):
    def rank(axes: Axes, n: int) -> Ranking:
        eligible = axes.finite(axes.raw)
        if where is not None:
            eligible &= where(axes)
        keys = (score(axes),) if axes.released else (score(axes), raw(axes))
        return Ranking(keys, eligible)

    return rank


def _rank_full(axes: Axes, n: int) -> Ranking:
    return Ranking((np.ones(len(axes), np.float32),), np.ones(len(axes), bool))


def _rank_random(axes: Axes, n: int) -> Ranking:
    return Ranking((axes.uniform,), np.ones(len(axes), bool))


def _rank_split(axes: Axes, n: int) -> Ranking:
    """round(gamma n) tokens by h, the rest by (1 - h) q; where both chose the same token, back-fill by h + q - h q."""
    eligible = axes.finite(axes.raw)
    by_entropy = round(axes.gamma * n)
    h, q = np.where(eligible, axes.unit["h"], -1), np.where(eligible, axes.learnable, -1)
    by_h, by_q, back_fill = (h,), (np.where(eligible, (1 - h) * q, -1),), (soft_or(h, q),)
    if not axes.released:
        raw_h, raw_q = (np.where(eligible, raw, -1) for raw in (axes.raw["H"], _raw_learnable(axes)))
        by_h, by_q, back_fill = (*by_h, raw_h), (*by_q, raw_q), (*back_fill, raw_h + raw_q)
    chosen = select_top(by_h, by_entropy) | select_top(by_q, n - by_entropy)
    return Ranking((chosen.astype(np.int8), *back_fill), eligible)


def _in_q3(axes: Axes) -> np.ndarray:
    """Low entropy, high divergence."""
    return axes.quadrant == 3


def _raw_learnable(axes: Axes) -> Floats:
    return axes.raw["D"] * axes.raw["C"]


SELECTORS: tuple[Selector, ...] = (
    Selector("pure_opd", "full", ("full_opd", "none"), "1", _rank_full),
    Selector(
        "teachability",
        "dlearn_high",
        ("teachability_high", "dlearn"),
        "q",
        _by(lambda a: a.unit["d"] * a.unit["c"], _raw_learnable),
        ("d", "c"),
    ),
    Selector("entropy", "entropy", ("high_entropy",), "h", _by(lambda a: a.unit["h"], lambda a: a.raw["H"]), ("h",)),
    Selector(
        "teachability_entropy",
        "ca_softor",
        ("entropy_teachability", "ta_softor", "dlearn_entropy"),
        "h + q - h q",
        _by(lambda a: soft_or(a.unit["h"], a.learnable), lambda a: a.raw["H"] + _raw_learnable(a)),
        ("h", "d", "c", "dc"),
    ),
    Selector(
        "teachability_entropy_split",
        "split_budget_ca",
        ("entropy_teachability_split", "ta_split"),
        "gamma n by h, the rest by (1 - h) q",
        _rank_split,
        ("h", "d", "c", "dc"),
    ),
    Selector(
        "tip",
        "tip",
        ("tip_softor",),
        "h + d - h d",
        _by(lambda a: soft_or(a.unit["h"], a.unit["d"]), lambda a: a.raw["H"] + a.raw["D"]),
        ("h", "d"),
    ),
    Selector(
        "tip_paper",
        "tip_paper",
        (),
        "TIP as published: soft-or of min-max H (clipped at p98) and KL(S||T), per sample",
        _by(lambda a: soft_or(a.unit["h_tip"], a.unit["r_tip"]), lambda a: a.raw["R"]),
        ("h_tip", "r_tip"),
        scope="sample",
        round_down=True,
    ),
    Selector(
        "divergence", "divergence", ("high_d", "raw_d"), "d", _by(lambda a: a.unit["d"], lambda a: a.raw["D"]), ("d",)
    ),
    Selector(
        "compatibility", "compatibility", ("high_c",), "c", _by(lambda a: a.unit["c"], lambda a: a.raw["C"]), ("c",)
    ),
    Selector("random", "random", (), "uniform", _rank_random),
    Selector(
        "dincompat_high",
        "dincompat_high",
        (),
        "d (1 - c)",
        _by(lambda a: a.unit["d"] * (1 - a.unit["c"]), lambda a: a.raw["D"] * (1 - a.raw["C"])),
        ("d", "c"),
    ),
    Selector(
        "q3",
        "q3",
        (),
        "d (1 - h) in Q3, TIP's Q3 score",
        _by(lambda a: a.unit["d"] * (1 - a.unit["h"]), lambda a: a.raw["D"], _in_q3),
        ("h", "d"),
    ),
    Selector(
        "q3_highc",
        "q3_highc",
        ("q3_highC",),
        "c in Q3",
        _by(lambda a: a.unit["c"], lambda a: a.raw["C"], _in_q3),
        ("h", "d", "c"),
    ),
    Selector(
        "q3_lowc",
        "q3_lowc",
        ("q3_lowC",),
        "1 - c in Q3",
        _by(lambda a: 1 - a.unit["c"], lambda a: -a.raw["C"], _in_q3),
        ("h", "d", "c"),
    ),
    Selector(
        "q3_dlearn_high",
        "q3_dlearn_high",
        ("q3_teachability_high",),
        "d c in Q3",
        _by(lambda a: a.unit["d"] * a.unit["c"], _raw_learnable, _in_q3),
        ("h", "d", "c"),
    ),
    Selector(
        "q3_dlearn_low",
        "q3_dlearn_low",
        ("q3_teachability_low",),
        "1 - d c in Q3",
        _by(lambda a: 1 - a.unit["d"] * a.unit["c"], lambda a: -_raw_learnable(a), _in_q3),
        ("h", "d", "c"),
    ),
    Selector(
        "q3_dincompat_high",
        "q3_dincompat_high",
        (),
        "d (1 - c) in Q3",
        _by(lambda a: a.unit["d"] * (1 - a.unit["c"]), lambda a: a.raw["D"] * (1 - a.raw["C"]), _in_q3),
        ("h", "d", "c"),
    ),
)

_BY_NAME = {name: selector for selector in SELECTORS for name in (selector.name, selector.mask, *selector.aliases)}


def find_selector(name: str) -> Selector:
    """The selector of a method, alias or mask name. Raises ValueError listing the known ones."""
    if name not in _BY_NAME:
        raise ValueError(f"--opd-budget-mask: unknown method {name!r}; known: {', '.join(_BY_NAME)}")
    return _BY_NAME[name]
