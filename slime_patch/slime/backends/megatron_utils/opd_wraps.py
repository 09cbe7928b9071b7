"""The wraps of slime's trainer, installed by opd_hooks.initialize: each once, each only around what it knows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

_ORIGINAL = "ta_opd_original"
_MADE = "ta_opd_made"


def wrap(owner: Any, name: str, parameters: tuple[str, ...], make: Callable[[Callable], Callable]) -> None:
    """Replace owner.name by make(owner.name), once for each function that defines a `make`; ta_opd_original is slime's.

    Raises RuntimeError where there is no such function or its first parameters are not the named ones.
    """
    original = getattr(owner, name, None)
    where = f"{getattr(owner, '__name__', owner)}.{name}"
    if original is None:
        raise RuntimeError(f"slime has no {where}; this patch does not know this version of slime")
    made = getattr(original, _MADE, ())
    if make.__qualname__ in made:
        return
    found = tuple(inspect.signature(original).parameters)
    if found[: len(parameters)] != parameters:
        raise RuntimeError(f"slime's {where} takes {found}; this patch knows {parameters}")
    wrapped = functools.wraps(original)(make(original))
    setattr(wrapped, _ORIGINAL, getattr(original, _ORIGINAL, original))
    setattr(wrapped, _MADE, (*made, make.__qualname__))
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


def report_dense_losses() -> None:
    """Turn the sums that our loss logs into means of a training step, and move TAID's t by them."""
    from slime.backends.megatron_utils import model, opd_taid
    from slime.backends.megatron_utils.opd_loss import COUNT, means
    from slime.utils.opd_settings import slime_options
    from ta_opd.loss_plan import is_interpolated

    def make(train_one_step: Callable) -> Callable:
        def with_means(args: Any, rollout_id: int, *rest: Any, **named: Any) -> tuple[dict[str, float], Any]:
            options = slime_options(args)
            if is_interpolated(options):
                opd_taid.begin_step(args, options, rollout_id)
            reduced, grad_norm = train_one_step(args, rollout_id, *rest, **named)
            if COUNT not in reduced:  # a critic, or a stage without the loss
                return reduced, grad_norm
            numbers, found = means(reduced)
            if is_interpolated(options):
                numbers["opd/taid_t"] = opd_taid.current_t()
                opd_taid.end_step(opd_taid.same_on_all_shards(found["cross_entropy"] if found else None))
            return numbers, grad_norm

        return with_means

    wrap(model, "train_one_step", ("args", "rollout_id", "step_id"), make)


def save_taid_with_checkpoints() -> None:
    """Write TAID's state whenever slime writes a checkpoint, by the one rank that logs."""
    from slime.backends.megatron_utils import actor, opd_taid

    def make(save: Callable) -> Callable:
        def save_both(iteration: int, *rest: Any, **named: Any) -> Any:
            result = save(iteration, *rest, **named)
            if logs_for_all():
                opd_taid.save(iteration)
            return result

        return save_both

    wrap(actor, "save", ("iteration", "model", "optimizer"), make)


def take_teacher_distributions(k: int) -> None:
    """Take lists of k entries, or hidden states with k = 0, from the forward of a teacher in the trainer."""
    from slime.backends.megatron_utils import actor, opd_teacher

    def make(forward_only: Callable) -> Callable:
        def with_distributions(f: Callable, args: Any, *rest: Any, store_prefix: str = "", **named: Any) -> Any:
            if store_prefix != opd_teacher.PREFIX:
                return forward_only(f, args, *rest, store_prefix=store_prefix, **named)
            return opd_teacher.scored(forward_only, k, f, args, *rest, store_prefix=store_prefix, **named)

        return with_distributions

    wrap(actor, "forward_only", ("f", "args", "model", "data_iterator", "num_microbatches", "store_prefix"), make)


def pack_before_the_head() -> None:
    """Let the output layer see selected rows alone in training steps, and the loss know which."""
    from slime.backends.megatron_utils import model, opd_pack

    def make_batch(get_batch: Callable) -> Callable:
        def with_packing(*positional: Any, **named: Any) -> dict[str, Any]:
            batch = get_batch(*positional, **named)
            opd_pack.announce(batch)
            return batch

        return with_packing

    def make_step(train_one_step: Callable) -> Callable:
        def with_packed_head(
            args: Any, rollout_id: int, step_id: int, data_iterator: Any, model: Any, *rest: Any, **named: Any
        ) -> tuple[dict[str, float], Any]:
            with opd_pack.packed_head(args, model):
                return train_one_step(args, rollout_id, step_id, data_iterator, model, *rest, **named)

        return with_packed_head

    wrap(model, "get_batch", ("data_iterator", "keys"), make_batch)
    wrap(model, "train_one_step", ("args", "rollout_id", "step_id", "data_iterator", "model"), make_step)


def write_token_losses() -> None:
    """Write the losses of a rollout's tokens when its training ends."""
    from slime.backends.megatron_utils import actor, model, opd_token_losses

    def make_step(train_one_step: Callable) -> Callable:
        def with_step(args: Any, rollout_id: int, step_id: int, *rest: Any, **named: Any) -> Any:
            opd_token_losses.begin_step(step_id)
            return train_one_step(args, rollout_id, step_id, *rest, **named)

        return with_step

    def make_train(train: Callable) -> Callable:
        def train_and_write(rollout_id: int, *rest: Any, **named: Any) -> None:
            train(rollout_id, *rest, **named)
            opd_token_losses.finish()

        return train_and_write

    wrap(model, "train_one_step", ("args", "rollout_id", "step_id"), make_step)
    wrap(actor, "train", ("rollout_id", "model", "optimizer"), make_train)


def logs_for_all() -> bool:
    """This rank is the one that logs for all: the first of its data- and tensor-parallel groups, the last stage."""
    from megatron.core import mpu

    return (
        mpu.get_data_parallel_rank(with_context_parallel=True) == 0
        and mpu.get_tensor_model_parallel_rank() == 0
        and mpu.is_pipeline_last_stage()
    )


def _with_subclasses(cls: type) -> list[type]:
    return [cls, *(each for sub in cls.__subclasses__() for each in _with_subclasses(sub))]
