"""Axes and quadrants of the valid tokens of a whole file, as a rollout batch has them (ta_opd.axes)."""

from __future__ import annotations

import numpy as np
import torch
from ta_opd import Options
from ta_opd.axes import build_axes
from ta_opd.scores import SCORES, TokenScores, soft_or

from .schema import QUADRANTS

_OPTIONS = Options()
SCOPE = {
    "tokens": "loss_mask 1, whole file",
    "norm": _OPTIONS.metric_normalization,
    "q_low": _OPTIONS.metric_q_low,
    "q_high": _OPTIONS.metric_q_high,
}


def file_axes(entropy: np.ndarray, disagreement: np.ndarray, compatibility: np.ndarray, valid: np.ndarray) -> dict:
    """The columns of schema.AXES, [N] each: float32, NaN where not known, and the quadrants as texts or None.

    entropy, disagreement, compatibility: float32 [N], NaN where not known. valid: bool [N], the tokens that quantiles
    and medians are taken over, and that get values.
    """
    known = {"entropy": entropy, "disagreement": disagreement, "compatibility": compatibility}
    tensors = {name: torch.from_numpy(np.array(values, np.float32)) for name, values in known.items()}
    scores = TokenScores(**(dict.fromkeys(SCORES, torch.full((len(valid),), torch.nan)) | tensors))
    uniform = np.zeros(int(valid.sum()), np.uint64)
    lengths = torch.tensor([len(valid)])
    axes = build_axes(scores, torch.from_numpy(valid), lengths, _OPTIONS, ("h", "d", "c"), uniform)
    h, d, c = (axes.unit[name] for name in "hdc")
    quadrant = np.full(len(valid), None, object)
    quadrant[valid] = np.array([None, *QUADRANTS], object)[axes.quadrant]
    values = {
        "H_norm": h,
        "D_norm": d,
        "C_norm": c,
        "Dlearn": d * c,
        "Dincompat": d * (1 - c),
        "tip_score": soft_or(h, d),
        "ca_softor_score": soft_or(h, d * c),
    }
    return {name: _spread(column, valid) for name, column in values.items()} | {"quadrant": quadrant}


def _spread(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    whole = np.full(len(valid), np.nan, np.float32)
    whole[valid] = values
    return whole
