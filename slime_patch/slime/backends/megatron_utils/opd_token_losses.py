"""What the loss computes at each distilled token, as tables beside the token bank: --opd-token-loss-dir.

A rank that holds logits writes losses_<rollout>_rank<rank>.parquet when a rollout's training ends: the last pipeline
stage's first tensor-parallel rank, each context-parallel rank its own rows, so that a token is in one file. Until then
the numbers stay on the rank's device, 36 bytes a response token; a step waits for nothing.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from slime.backends.megatron_utils.opd_rows import Places, TokenRows
from ta_opd.files import atomic_path
from ta_opd.token_bank.formats import write_parquet
from torch import Tensor, distributed

NUMBERS = (
    *("weight", "loss", "forward_kl", "reverse_kl", "cross_entropy"),
    *("teacher_entropy", "student_entropy", "gate"),
)
"""Columns of float32, in nats but for weight and gate. loss: L_t, before the weight. The others: RowResult's fields."""


@dataclass(frozen=True)
class _MicroBatch:
    """tokens: of each sample, prompt and response. numbers: float32 [N, 1 + NUMBERS], the first one 0 where a token is
    not distilled."""

    step: int
    known: list[TokenRows]
    tokens: list[Tensor]
    responses: list[int]
    places: Places
    numbers: Tensor


@dataclass
class _Rollout:
    folder: Path
    number: int
    step: int = 0
    parts: dict[int, _MicroBatch] = field(default_factory=dict)


_rollout: _Rollout | None = None
"""The one that this rank trains on and writes about."""


def begin(folder: str, rollout_id: int) -> None:
    """A rollout whose losses this rank will see; nothing is kept of it where no folder is named."""
    global _rollout
    _rollout = None
    if not folder:
        return
    from megatron.core import mpu

    if mpu.get_tensor_model_parallel_rank() == 0:
        _rollout = _Rollout(Path(folder), rollout_id)


def clear(folder: str, rollout_id: int) -> None:
    """Remove what earlier ranks, perhaps more of them, wrote of a rollout that is trained on again. One rank calls it,
    before any of them may write."""
    for path in Path(folder).glob(f"losses_{rollout_id:06d}_rank*.parquet"):
        path.unlink(missing_ok=True)


def check_folder(folder: str) -> None:
    """Raises ValueError where this rank cannot write tables."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ValueError(f"--opd-token-loss-dir {folder} writes Parquet, which needs pyarrow")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"--opd-token-loss-dir {folder} cannot be written: {error.strerror}") from error


def begin_step(step_id: int) -> None:
    """The rollout's next optimizer step."""
    if _rollout is not None:
        _rollout.step = step_id


def record(
    batch: dict[str, Any], known: list[TokenRows], places: Places, kept: Tensor, weight: Tensor, rows: dict[str, Tensor]
) -> None:
    """A micro-batch's N tokens, once: a recomputed loss says the same again. rows: [N] of every name in NUMBERS but the
    weight."""
    if _rollout is None or id(batch["unconcat_tokens"][0]) in _rollout.parts:
        return
    numbers = torch.stack([kept, weight, *(rows[name] for name in NUMBERS[1:])], dim=1)
    tokens, responses = list(batch["unconcat_tokens"]), list(batch["response_lengths"])
    _rollout.parts[id(tokens[0])] = _MicroBatch(_rollout.step, known, tokens, responses, places, numbers)


def finish() -> Path | None:
    """Write the rollout's table, of no row if need be; None on a rank that writes none."""
    global _rollout
    rollout, _rollout = _rollout, None
    if rollout is None:
        return None
    rollout.folder.mkdir(parents=True, exist_ok=True)
    path = rollout.folder / f"losses_{rollout.number:06d}_rank{distributed.get_rank():03d}.parquet"
    blocks = [_columns(rollout.number, part) for part in rollout.parts.values()]
    with atomic_path(path) as temporary:
        write_parquet(temporary, blocks or [_no_columns(rollout.number)])
    return path


def _columns(rollout_id: int, part: _MicroBatch) -> dict[str, np.ndarray]:
    """A micro-batch's distilled tokens, as the token bank names and numbers them."""
    numbers = part.numbers.cpu().numpy()
    kept = numbers[:, 0] > 0
    sample = np.repeat(np.arange(len(part.tokens)), [len(token) for token in part.places.token])[kept]
    tokens = [
        every[len(every) - response :][place.to(every.device)].cpu()
        for every, response, place in zip(part.tokens, part.responses, part.places.token, strict=True)
    ]
    index = [rows.sample_index for rows in part.known]
    unknown = np.array([number is None for number in index])
    index = np.array([-1 if number is None else number for number in index], dtype=np.int64)
    columns = _keys(
        rollout_id,
        part.step,
        np.ma.array(index[sample], mask=unknown[sample]),
        _flat(part.places.token)[kept],
        _flat(tokens)[kept],
    )
    return columns | {name: numbers[kept, 1 + i] for i, name in enumerate(NUMBERS)}


def _no_columns(rollout_id: int) -> dict[str, np.ndarray]:
    none = np.zeros(0, dtype=np.int64)
    return _keys(rollout_id, 0, np.ma.array(none), none, none) | dict.fromkeys(NUMBERS, np.zeros(0, np.float32))


def _keys(rollout_id: int, step: int, sample_index: Any, tok_pos: Any, token_id: Any) -> dict[str, Any]:
    """sample_index: null where slime's sample has no number."""
    count = len(tok_pos)
    return {
        "rollout_id": np.full(count, rollout_id, np.int64),
        "step": np.full(count, step, np.int32),
        "sample_index": sample_index,
        "tok_pos": tok_pos,
        "token_id": token_id,
    }


def _flat(parts: Sequence[Tensor]) -> np.ndarray:
    return torch.cat(list(parts)).to(torch.int64).numpy()
