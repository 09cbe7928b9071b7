"""TAID's t in the trainer: one schedule a train actor, moved once an optimizer step, saved beside the checkpoint.

Every rank of the last pipeline stage holds the same schedule, since each moves it by the same number, J over all data-
and context-parallel ranks; other stages never read it.
"""

from __future__ import annotations

import json
import logging
import math
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ta_opd.files import write_json
from ta_opd.schedules import TAIDSchedule
from ta_opd.slime_options import SlimeOptions
from torch import distributed

logger = logging.getLogger(__name__)


@dataclass
class _State:
    """folder: args.save, None in a run that saves nothing. steps: optimizer steps taken, by all runs so far."""

    schedule: TAIDSchedule
    folder: str | None
    steps: int = 0


_state: _State | None = None
"""Of this process's actor: made by its first training step, gone with `forget`."""


def forget() -> None:
    """A new actor starts."""
    global _state
    _state = None


def begin_step(args: Namespace, options: SlimeOptions, rollout_id: int) -> None:
    """Before an optimizer step; the first one makes the schedule, or takes it from the checkpoint of the rollout
    before."""
    global _state
    if _state is None:
        _state = _resumed(args, options, rollout_id)


def current_t() -> float:
    """t of the step under way. Raises RuntimeError outside of one."""
    if _state is None:
        raise RuntimeError("TAID's t is read outside a training step of slime's")
    return _state.schedule.t


def end_step(cross_entropy: float | None) -> None:
    """After an optimizer step. cross_entropy: J, the mean over all its distilled tokens, None where there were none:
    then t stays."""
    assert _state is not None, "a step that ends has begun"
    if cross_entropy is not None:
        _state.schedule.update(cross_entropy, _state.steps)
    _state.steps += 1


def same_on_all_shards(cross_entropy: float | None) -> float | None:
    """J as the first rank of the tensor-parallel group has it: another order of a sum may not give shards another t."""
    from megatron.core import mpu

    if cross_entropy is None or mpu.get_tensor_model_parallel_world_size() == 1:
        return cross_entropy
    device = "cuda" if torch.cuda.is_available() else "cpu"
    value = torch.tensor(cross_entropy, dtype=torch.float64, device=device)
    group = mpu.get_tensor_model_parallel_group()
    distributed.broadcast(value, distributed.get_global_rank(group, 0), group=group)
    return float(value)


def save(iteration: int) -> None:
    """Write the state under args.save, for the checkpoint of this iteration; nothing before the first step."""
    if _state is None or _state.steps == 0 or not _state.folder:
        return
    path = _path(_state.folder, iteration)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = _state.schedule.state_dict()
    write_json(path, {**values, "steps": _state.steps, "previous_loss": _finite(values["previous_loss"])})


def _resumed(args: Namespace, options: SlimeOptions, rollout_id: int) -> _State:
    settings = (options.taid_t_start, options.taid_t_end, options.taid_alpha, options.taid_beta)
    state = _State(TAIDSchedule(max(1, args.train_iters), *settings), getattr(args, "save", None))
    if rollout_id == 0 or not getattr(args, "load", None):
        return state
    path = _path(args.load, rollout_id - 1)
    saved = _of_first_rank(path)
    if saved is None:
        logger.warning("no TAID state at %s: t starts at %s", path, state.schedule.t)
        return state
    state.steps = saved.pop("steps")
    if saved["previous_loss"] is None:
        saved["previous_loss"] = math.inf
    # A run that goes on for more rollouts than it was started for keeps t and takes the new line below it.
    state.schedule.load_state_dict(saved | {"total_steps": state.schedule.total_steps})
    logger.info("TAID resumes from %s at t = %s", path, state.schedule.t)
    return state


def _of_first_rank(path: Path) -> dict[str, Any] | None:
    """What the first rank finds at path, None where it finds nothing, on every rank of the actor; a collective."""
    ranks = distributed.is_initialized()
    found = [None]
    if (not ranks or distributed.get_rank() == 0) and path.is_file():
        found = [json.loads(path.read_text(encoding="utf-8"))]
    if ranks:
        distributed.broadcast_object_list(found, src=0)
    return found[0]


def _path(folder: str, iteration: int) -> Path:
    return Path(folder) / "opd_taid" / f"iter_{iteration:07d}.json"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
