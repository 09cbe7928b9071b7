"""Who computes the losses that benchmarks/losses.py compares, and how they are checked and measured."""

from collections.abc import Callable

from . import eager, ours, published, restated
from .provider import Provider, Unavailable

PROVIDERS: dict[str, Callable[[str], Provider]] = {
    "ours": ours.ours,
    "ours_triton": ours.ours_triton,
    "eager": eager.eager,
    "eager_fp32": eager.eager_fp32,
    "compile": eager.compiled,
    "liger": published.liger,
    "speculators": published.speculators,
    "trl": published.trl,
    "slime": restated.slime,
}
"""Name to what makes the provider for a device, or raises Unavailable."""

__all__ = ["PROVIDERS", "Provider", "Unavailable"]
