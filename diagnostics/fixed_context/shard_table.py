"""A shard's columns as a table: what each token is, beside what was scored; null where a number is not known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from .contexts import Context
from .schema import SCHEMA_VERSION
from .scoring_rows import Columns


def shard_table(shard: Sequence[Context], columns: Columns, schema: pa.Schema) -> pa.Table:
    """[N rows] with exactly the schema's columns; one that was not scored is null throughout."""
    known = _identity(shard) | {name: values.numpy() for name, values in columns.items()}
    assert known.keys() <= set(schema.names), sorted(known.keys() - set(schema.names))
    n = len(known["token_id"])
    return pa.table([_array(known.get(field.name), field.type, n) for field in schema], schema=schema)


def _identity(shard: Sequence[Context]) -> dict[str, np.ndarray]:
    lengths = [len(context.response) for context in shard]
    position = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])

    def each(values: list) -> np.ndarray:
        return np.repeat(np.array(values, object), lengths)

    whole = np.repeat([context.whole_length for context in shard], lengths)
    return {
        "schema_version": np.full(len(position), SCHEMA_VERSION, np.int32),
        "context_id": each([context.context_id for context in shard]),
        "prompt_id": each([context.prompt_id for context in shard]),
        "sample_index": each([context.sample_index for context in shard]),
        "group_index": each([context.group_index for context in shard]),
        "tok_pos": position,
        "pos_norm": (position / np.maximum(whole - 1, 1)).astype(np.float32),
        "resp_len": whole.astype(np.int32),
        "token_id": np.concatenate([context.response for context in shard]),
        "loss_mask": np.concatenate([context.loss_mask for context in shard]),
    }


def _array(values: np.ndarray | None, kind: pa.DataType, n: int) -> pa.Array:
    if values is None:
        return pa.nulls(n, kind)
    if pa.types.is_fixed_size_list(kind):
        flat = _array(values.ravel(), kind.value_type, values.size)
        return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    if values.dtype.kind == "f":
        unknown = ~np.isfinite(values)
        whole = values if pa.types.is_floating(kind) else np.where(unknown, 0, values)
        return pa.array(whole.astype(kind.to_pandas_dtype(), copy=False), kind, mask=unknown)
    return pa.array(values, kind)
