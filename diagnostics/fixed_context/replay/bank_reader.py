"""A token bank rollout by rollout, from its files or merged into one: never more than a rollout in memory.

Reads Parquet (ta_opd.token_bank.bank, tools/merge_token_bank.py). Rows of a rollout lie together in both.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from ta_opd import Options
from ta_opd.token_bank.columns import SCHEMA_VERSION

from ..files import read_json
from ..frame_columns import labels, loss_mask
from ..frame_columns import numbers as frame_numbers
from ..schema import read_metrics
from .selector_replay import BANK_SCORES, METRICS_SCORES, StoredTokens

IDENTITY = (
    "schema_version",
    "rollout_id",
    "sample_ordinal",
    "group_index",
    "pos_norm",
    "loss_mask_original",
    "teacher_logp_sampled",
)
OWN = ("budget_method", "budget_ratio", "budget_keep")
"""The selection that was made when the bank was written."""
RUN = ("source_run", "pair_id", "seed")
"""Columns that tell runs apart in a merged bank; source_run is absent in a rollout's own file."""
BATCH = 131_072
_TEACHER_LIST = "teacher_top1_id"


@dataclass(frozen=True)
class BankRollout:
    """One rollout of N tokens. run: what tells its run apart. group: int64 [N], the prompt. position: float32 [N],
    0..1. keep: bool [N], and method, ratio: the selection that the bank was written with;
    None of a metrics file, which has none."""

    run: str
    rollout_id: int
    tokens: StoredTokens
    group: NDArray
    position: NDArray
    keep: NDArray[np.bool_] | None
    method: str
    ratio: float
    source: Path


def bank_files(paths: Sequence[str | Path]) -> list[Path]:
    """Parquet files, with a directory standing for its rollout_*.parquet. Raises ValueError where there is none."""
    files: list[Path] = []
    for path in map(Path, paths):
        found = sorted(path.glob("rollout_*.parquet")) if path.is_dir() else [path]
        if not found:
            raise ValueError(
                f"{path}: no rollout_*.parquet; a CSV or JSONL bank goes through merge_token_bank.py first"
            )
        for file in found:
            if not file.is_file():
                raise ValueError(f"{file}: no such file")
            if file.suffix != ".parquet":
                raise ValueError(f"{file}: not Parquet; a CSV or JSONL bank goes through merge_token_bank.py first")
        files += found
    return files


def bank_options(file: Path) -> dict[str, Options]:
    """Run -> the settings a bank was written with; key "" where the file is of one run. Empty where nothing says.

    From config.json beside a rollout's file or FILE.manifest.json beside a merged one.
    """
    config, manifest = file.parent / "config.json", file.with_name(f"{file.name}.manifest.json")
    if manifest.is_file():
        runs = read_json(manifest).get("runs", {})  # a context bank's manifest tells of no runs
        return {run: _options(told["options"]) for run, told in runs.items() if told["options"] is not None}
    if config.is_file() and file.name.startswith("rollout_"):
        told = read_json(config)
        if "options" not in told:
            raise ValueError(f"{config}: no options: not the config.json of a token bank")
        return {"": _options(told["options"])}
    return {}


def _options(told: dict[str, Any]) -> Options:
    """The fields that this library's Options has; a slime run writes more of them."""
    names = {field.name for field in fields(Options)}
    return Options(**{name: value for name, value in told.items() if name in names})


def read_rollouts(file: Path, columns: Sequence[str] = ()) -> Iterator[BankRollout]:
    """The rollouts of a file in order. columns: further float columns that `tokens.columns` shall have.

    Raises ValueError, naming the file, where it cannot be read, is of another schema version, lacks a column (named),
    or the rows of a rollout do not lie together.
    """
    try:
        parquet = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file}: not a whole Parquet file ({str(error).splitlines()[0]})") from error
    with parquet:
        there = parquet.schema_arrow.names
        needed = [*IDENTITY, *OWN, *BANK_SCORES.values(), *columns]
        if missing := [name for name in dict.fromkeys(needed) if name not in there]:
            raise ValueError(f"{file}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}")
        optional = [name for name in (*RUN, _TEACHER_LIST) if name in there]
        names = list(dict.fromkeys([*needed, *optional]))
        floats = [*BANK_SCORES.values(), *columns]
        seen: set[tuple] = set()
        for key, parts in _groups(parquet, names, [name for name in RUN if name in there], file):
            if key in seen:
                raise ValueError(f"{file}: the rows of rollout {key[-1]} do not lie together; merge it again")
            seen.add(key)
            yield _rollout(file, key, pa.Table.from_batches(parts), floats, len(seen))


def _groups(parquet: pq.ParquetFile, names: list[str], run: list[str], file: Path) -> Iterator[tuple[tuple, list]]:
    key, parts = None, []
    batches = parquet.iter_batches(BATCH, columns=names, use_threads=False)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{file}: broken ({str(error).splitlines()[0]})") from error
        if batch is None:
            break
        for start, stop in _runs_of_equal([batch.column(name) for name in [*run, "rollout_id"]], len(batch)):
            here = tuple(batch.column(name)[start].as_py() for name in [*run, "rollout_id"])
            if here != key and parts:
                yield key, parts
                parts = []
            key = here
            parts.append(batch.slice(start, stop - start))
    if parts:
        yield key, parts


def _runs_of_equal(columns: list[pa.Array], count: int) -> list[tuple[int, int]]:
    """Bounds of stretches in which all columns stay the same."""
    change = np.zeros(max(count - 1, 0), dtype=bool)
    for column in columns:
        codes = column.indices if pa.types.is_dictionary(column.type) else column.dictionary_encode().indices
        values = codes.fill_null(-1).to_numpy(zero_copy_only=False)
        change |= values[1:] != values[:-1]
    edges = [0, *(np.flatnonzero(change) + 1).tolist(), count]
    return [(a, b) for a, b in itertools.pairwise(edges) if a < b]


def run_name(file: Path, key: tuple) -> str:
    """source_run of a merged bank, else the run's directory; of a bank that is neither, its file's name."""
    if len(key) == len(RUN) + 1:
        return str(key[0])
    return file.resolve().parents[1].name if file.parent.name == "token_bank" else file.parent.name or file.stem


def _rollout(file: Path, key: tuple, table: pa.Table, floats: list[str], number: int) -> BankRollout:
    versions = table["schema_version"].unique().to_pylist()
    if versions != [SCHEMA_VERSION]:
        shown = ", ".join(map(str, versions))
        raise ValueError(f"{file}: schema version {shown}; this software reads version {SCHEMA_VERSION}")

    def numbers(name: str, dtype=np.float32) -> NDArray:
        column = table[name]
        if pa.types.is_floating(column.type):
            return column.fill_null(np.nan).to_numpy().astype(dtype, copy=False)
        if not pa.types.is_integer(column.type):
            raise ValueError(f"{file}: column {name} is {column.type}, not a number")
        if column.null_count:
            raise ValueError(f"{file}: rollout {key[-1]}: column {name} is empty at {column.null_count:,} rows")
        return column.to_numpy().astype(dtype, copy=False)

    sample = numbers("sample_ordinal", np.int64)
    if len(sample) and (np.diff(sample) < 0).any():
        raise ValueError(f"{file}: rollout {key[-1]}: samples are not in the order in which they were selected")
    known = np.isfinite(numbers("teacher_logp_sampled"))
    columns = {name: numbers(name) for name in dict.fromkeys(floats)}
    method, ratio = (table[name].unique().to_pylist() for name in ("budget_method", "budget_ratio"))
    if len(method) != 1 or len(ratio) != 1:
        raise ValueError(f"{file}: rollout {key[-1]} was selected by more than one method or ratio: {method}, {ratio}")
    tokens = StoredTokens(
        columns,
        numbers("loss_mask_original", np.int8),
        np.bincount(sample),
        known,
        int(key[-1]),
    )
    return BankRollout(
        run_name(file, key),
        int(key[-1]),
        tokens,
        numbers("group_index", np.int64),
        numbers("pos_norm"),
        numbers("budget_keep", np.int8) != 0,
        method[0],
        float(ratio[0]),
        file,
    )


def metrics_rollout(path: str | Path) -> BankRollout:
    """A metrics file as one rollout, with the baseline's scores where it has them; it has no mask of its own.

    A score that the file lacks is missing from `tokens.columns`. Raises ValueError, naming it, where the prompt, the
    position or D is.
    """
    frame, where = read_metrics(path, needed=["prompt_id", "pos_norm", "loss_mask"]), str(path)
    base = "base_" if any(name.startswith("base_") for name in frame.columns) else ""
    names = {name: f"{base}{column}" for name, column in METRICS_SCORES.items()}
    if names["disagreement"] not in frame.columns:
        raise ValueError(f"{path}: missing column {names['disagreement']}")
    frame = frame.sort("context_id", "tok_pos", maintain_order=True)
    columns = {c: frame_numbers(frame, c, where).astype(np.float32) for c in names.values() if c in frame.columns}
    lengths = frame.group_by("context_id", maintain_order=True).len()["len"].to_numpy().astype(np.int64)
    known = np.isfinite(columns[names["disagreement"]])
    tokens = StoredTokens(columns, loss_mask(frame, "loss_mask", where), lengths, known, 0, names)
    group = np.unique(labels(frame, "prompt_id", where), return_inverse=True)[1]
    position = frame_numbers(frame, "pos_norm", where).astype(np.float32)
    return BankRollout(Path(path).stem, 0, tokens, group, position, None, "", 1.0, Path(path))
