"""The token bank's columns as Arrow types, and what differs between files."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from ta_opd import Options, Supports, TopK, select_tokens, token_scores
from ta_opd.token_bank.columns import SCHEMA_VERSION, Rollout, token_columns
from ta_opd.token_bank.formats import write_parquet

RAW_LISTS = ("student_top_ids", "student_top_logps", "teacher_top_ids", "teacher_top_logps")
SOURCES = ("source_file", "source_run")
TEXT = pa.dictionary(pa.int32(), pa.string())


@functools.cache
def bank_types() -> dict[str, pa.DataType]:
    """The type of every column as the bank's own Parquet writer gives it; of a raw list, the type of an entry.

    For formats that do not carry their types.
    """
    options = Options(topk_metrics_k=1, budget_mask="teachability", token_bank_raw_topk=True)
    floats, integers = torch.empty(0), torch.empty(0, dtype=torch.long)
    lists = TopK(torch.empty(0, 1, dtype=torch.int32), torch.empty(0, 1))
    supports = Supports(lists, lists)
    scores = token_scores(supports, options.score_variant, integers)
    rollout = Rollout(
        rollout_id=0,
        seed=0,
        supports=supports,
        token_ids=integers,
        student_logprob=floats,
        teacher_logprob=floats,
        loss_mask=integers,
        lengths=integers,
        prompt_lengths=integers,
        sample_index=integers,
        group_index=integers,
        truncated=integers.bool(),
    )
    selection = select_tokens(scores, integers, integers, options)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "empty.parquet"
        write_parquet(path, token_columns(rollout, scores, selection, options))
        schema = pq.read_schema(path)
    return {
        field.name: field.type.value_type if pa.types.is_fixed_size_list(field.type) else field.type for field in schema
    }


def differences(name: str, schema: pa.Schema, other_name: str, other: pa.Schema) -> list[str]:
    """In words, the columns in which two files differ; the order of columns is not one."""
    lines = []
    here, there = set(schema.names), set(other.names)
    for who, names in ((name, here - there), (other_name, there - here)):
        if names:
            lines.append(f"only {who} has {', '.join(sorted(names))}")
    for column in sorted(here & there):
        types = schema.field(column).type, other.field(column).type
        if types[0] != types[1]:
            lines.append(f"{column} is {types[0]} in {name} and {types[1]} in {other_name}")
    return lines


def check_version(version: int, fill_missing: bool) -> str:
    """What is wrong with a table of this schema version; empty when nothing is."""
    if version > SCHEMA_VERSION:
        return f"schema version {version}; this tool knows versions up to {SCHEMA_VERSION}"
    if version < SCHEMA_VERSION and not fill_missing:
        return f"schema version {version} is older than {SCHEMA_VERSION}; --fill-missing merges it, with nulls"
    return ""
