"""Teachability-aware on-policy distillation: scores, token selection and losses. Needs torch and numpy only.

support -> scores -> axes -> methods (the table of selectors) -> token_mask; row_losses and topk_losses -> losses (the
table of losses) -> objective. divergences is what the losses mean, plainly.
"""

from .losses import LOSSES, LossInputs
from .methods import SELECTORS, find_selector
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
