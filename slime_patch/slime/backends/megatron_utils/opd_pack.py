"""Selected rows alone through the student's output layer: --opd-pack-head.

The weights of a micro-batch are known before the model runs, so a hook hands the output layer the hidden states of the
rows that the loss reads, and the batch tells the loss which rows of the logits those are. Everything else is
Megatron's own: under sequence parallelism each rank picks from its share of the rows, as many as the others, and the
layer gathers what was picked; its backward gives the rows left out a gradient of zero.
Axes: T rows of a micro-batch on this rank, T' of them where sequence parallelism spreads those; H hidden units.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from slime.backends.megatron_utils.opd_rows import Layout, distilled, find_places, held, over_rows
from ta_opd.row_packing import RowPacking

KEY = "ta_opd_packing"
"""Where a batch has its RowPacking."""


@dataclass
class _Step:
    """A training step under way. waiting: of the micro-batch whose forward comes next."""

    args: Namespace
    layer: Any
    waiting: RowPacking | None = None

    @property
    def share(self) -> tuple[int, int]:
        """This rank's among the ranks that share the rows of the hidden states, and how many those are."""
        from megatron.core import mpu

        if not self.layer.sequence_parallel:
            return 0, 1
        return mpu.get_tensor_model_parallel_rank(), mpu.get_tensor_model_parallel_world_size()

    def pick(self, layer: Any, positional: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """The output layer's arguments, its hidden states [T', 1, H] cut down to the rows that are picked. A forward
        that only scores, such as one of slime's before-train-step hook, is in eval mode and keeps all rows."""
        if not layer.training:
            return positional, named
        packing, self.waiting = self.waiting, None
        assert packing is not None, "the output layer runs once for each micro-batch"
        hidden = positional[0] if positional else named["input_"]
        rank, shares = self.share
        assert hidden.shape[:2] == (packing.count // shares, 1), f"hidden states {tuple(hidden.shape)} of {packing}"
        hidden = hidden.index_select(0, packing.of_share(rank).to(hidden.device))
        return ((hidden, *positional[1:]), named) if positional else ((), named | {"input_": hidden})


_step: _Step | None = None


@contextmanager
def packed_head(args: Namespace, model: Sequence[Any]) -> Iterator[None]:
    """A training step in which the head of these model chunks sees selected rows alone; other forwards see all.

    Raises ValueError where the last stage's head is not Megatron's.
    """
    global _step
    layer = output_layer(model[-1])
    if layer is None:  # a pipeline stage without the head
        yield
        return
    from megatron.core.tensor_parallel import ColumnParallelLinear

    if not isinstance(layer, ColumnParallelLinear):
        raise ValueError(
            f"--opd-pack-head: the model's output layer is {type(layer).__name__}; it must be Megatron's "
            "ColumnParallelLinear, of which it is known what happens to the rows it is not given"
        )
    _step = _Step(args, layer)
    handle = layer.register_forward_pre_hook(_step.pick, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
        _step = None


def announce(batch: dict[str, Any]) -> None:
    """What slime's get_batch gives, before the model sees it: says in the batch which rows will have logits."""
    if _step is None or not _step.layer.training:
        return
    count = batch["tokens"].shape[-1]
    places = find_places(batch["total_lengths"], batch["response_lengths"], Layout.of(_step.args), count)
    _, kept = distilled(_step.args, held(batch["unconcat_tokens"]), places, torch.device("cpu"))
    _step.waiting = batch[KEY] = RowPacking.of(over_rows(kept, places, count, False), _step.share[1])


def output_layer(chunk: Any) -> Any:
    """The output layer inside a model chunk, None on a stage without one."""
    while hasattr(chunk, "module"):
        chunk = chunk.module
    return getattr(getattr(chunk, "language_model", chunk), "output_layer", None)
