"""Rows on what a run leaves on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ta_opd.slime_options import SlimeOptions

from . import training_memory
from .model_sizes import student_architecture
from .units import size

BANK_ROW = 108.7
"""Bytes of a row of the token bank, Parquet, K = 16, without raw lists (docs/benchmarks.md)."""

RAW_ENTRY = 16
"""Bytes of an entry of both raw lists before compression: two ids, two log-probs."""


def file_rows(v: Mapping[str, str], options: SlimeOptions) -> Iterator[str]:
    rollouts = int(v["NUM_ROLLOUT"])
    yield f"token bank: {_bank(v, options, rollouts)}"
    count = -(-rollouts // int(v["SAVE_INTERVAL"]))
    try:
        each = training_memory.checkpoint(student_architecture(v))
    except ValueError as error:
        yield f"checkpoints: {count}; their size is not known: {error}"
        return
    yield (
        f"checkpoints: {count} of {size(each)}, {size(count * each)} in all, none deleted "
        f"({training_memory.CHECKPOINT} bytes a parameter: weights, float32 copy, Adam)"
    )


def _bank(v: Mapping[str, str], options: SlimeOptions, rollouts: int) -> str:
    if options.token_bank_format != "parquet":
        return f"the size of {options.token_bank_format} is not known"
    tokens = int(v["ROLLOUT_BATCH_SIZE"]) * int(v["N_SAMPLES_PER_PROMPT"]) * int(v["ROLLOUT_MAX_RESPONSE_LEN"])
    each, note = BANK_ROW, f"{BANK_ROW} bytes a row, as measured at K = 16"
    if options.token_bank_raw_topk:
        lists = RAW_ENTRY * options.topk_metrics_k
        each, note = each + lists, f"{note}, and {lists} for both raw lists uncompressed"
    total = each * tokens
    return f"at most {size(total)} a rollout, {size(rollouts * total)} in all, as much again merged ({note})"
