"""Teachability-aware on-policy distillation: scores, token selection and losses. Needs torch and numpy only.

support -> scores -> axes -> methods (the table of selectors) -> token_mask; row_losses and topk_losses -> losses (the
table of losses) -> objective. divergences is what the losses mean, plainly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .losses import LOSSES, LossInputs
    from .methods import SELECTORS, find_selector
    from .objective import masked_mean
    from .options import Options
    from .schedules import TAIDSchedule
    from .scores import TokenScores, token_scores
    from .support import Provenance, Supports, TopK
    from .token_mask import Selection, select_tokens

_HOMES = {
    "losses": ("LOSSES", "LossInputs"),
    "methods": ("SELECTORS", "find_selector"),
    "objective": ("masked_mean",),
    "options": ("Options",),
    "schedules": ("TAIDSchedule",),
    "scores": ("TokenScores", "token_scores"),
    "support": ("Provenance", "Supports", "TopK"),
    "token_mask": ("Selection", "select_tokens"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

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


def __getattr__(name: str) -> Any:
    """From its module when it is first asked for: importing torch takes seconds, and files and selection need none."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
