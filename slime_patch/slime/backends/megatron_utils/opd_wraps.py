"""Two wraps of slime's trainer, installed by opd_hooks.initialize: each once, each only around what it knows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

_ORIGINAL = "ta_opd_original"


def wrap(owner: Any, name: str, parameters: tuple[str, ...], make: Callable[[Callable], Callable]) -> None:
    """Replace owner.name by make(owner.name), once.

    Raises RuntimeError where there is no such function or its first parameters are not the named ones.
    """
    original = getattr(owner, name, None)
    where = f"{getattr(owner, '__name__', owner)}.{name}"
    if original is None:
        raise RuntimeError(f"slime has no {where}; this patch does not know this version of slime")
    if hasattr(original, _ORIGINAL):
        return
    found = tuple(inspect.signature(original).parameters)
    if found[: len(parameters)] != parameters:
        raise RuntimeError(f"slime's {where} takes {found}; this patch knows {parameters}")
    wrapped = functools.wraps(original)(make(original))
    setattr(wrapped, _ORIGINAL, original)
    setattr(owner, name, wrapped)


def log_reverse_kl_in_training() -> None:
    """Hand `opd_reverse_kl` to the loss, which logs it as `train/opd_reverse_kl` but is never given it."""
    from slime.backends.megatron_utils import model

    def make(get_batch: Callable) -> Callable:
        def with_reverse_kl(data_iterator: Any, keys: Any, *rest: Any, **named: Any) -> dict[str, Any]:
            if "advantages" in keys and "opd_reverse_kl" in data_iterator.rollout_data:
                keys = [*keys, "opd_reverse_kl"]
            return get_batch(data_iterator, keys, *rest, **named)

        return with_reverse_kl

    wrap(model, "get_batch", ("data_iterator", "keys"), make)


def return_to_actor_after_loading() -> None:
    """Put the actor's weights back after loading another checkpoint.

    slime loads the reference and the teacher into the actor's own parameters and leaves them there; unless training is
    offloaded, the first weight update then sends the last one loaded to the rollout engines.
    """
    from slime.backends.megatron_utils.actor import MegatronTrainRayActor

    def make(load: Callable) -> Callable:
        def load_then_return(self: Any, model_tag: str, path: str) -> None:
            load(self, model_tag, path)
            self._switch_model("actor")

        return load_then_return

    # Ray gives the actor's class a subclass with copies of its methods, which does not see the class change.
    for owner in _with_subclasses(MegatronTrainRayActor):
        if owner is MegatronTrainRayActor or "load_other_checkpoint" in vars(owner):
            wrap(owner, "load_other_checkpoint", ("self", "model_tag", "path"), make)


def _with_subclasses(cls: type) -> list[type]:
    return [cls, *(each for sub in cls.__subclasses__() for each in _with_subclasses(sub))]
