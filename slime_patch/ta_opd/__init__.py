"""Teachability-aware on-policy distillation: scores, token selection and losses. Needs torch and numpy only.

support -> scores -> axes -> methods (the table) -> token_mask; divergences and schedules -> objective.
"""

from .methods import LOSSES, SELECTORS, LossInputs, find_selector
from .objective import masked_mean
from .options import Options
from .schedules import TAIDSchedule
from .scores import TokenScores, token_scores
from .support import Provenance, Supports, TopK
from .token_mask import Selection, select_tokens

__all__ = [
    "LOSSES",
    "SELECTORS",
    "LossInputs",
    "Options",
    "Provenance",
    "Selection",
    "Supports",
    "TAIDSchedule",
    "TokenScores",
    "TopK",
    "find_selector",
    "masked_mean",
    "select_tokens",
    "token_scores",
]
