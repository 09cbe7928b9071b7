"""The merge: plan what goes in, then stream it, one buffered row group in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ta_opd.files import atomic_path, write_json
from ta_opd.token_bank.formats import ROW_GROUP, parquet_settings

from .broken import Broken
from .identity import refuse_twice, run_names
from .inputs import Found, Rollout, find_rollouts
from .manifest import BankConfig, manifest, read_config
from .progress import LateProgress
from .reading import read_batches, read_schema, row_count
from .schema import RAW_LISTS, SOURCES, TEXT, check_version, differences


@dataclass(frozen=True)
class Settings:
    """What the flags of merge_token_bank.py say."""

    drop_raw_topk: bool = False
    source_columns: bool = True
    skip_broken: bool = False
    fill_missing: bool = False


@dataclass(frozen=True)
class Source:
    """A rollout that goes in. schema: of its file, None where it has no row. rows: None where not known yet."""

    rollout: Rollout
    run: str
    schema: pa.Schema | None
    rows: int | None


@dataclass(frozen=True)
class Report:
    """manifest: as it was written. notes: what was odd and did no harm."""

    manifest: dict[str, Any]
    skipped: list[Broken]
    notes: list[str]


class BrokenFiles(Exception):
    """files: every one that is known to be broken; nothing was written."""

    def __init__(self, files: Sequence[Broken]):
        super().__init__(files)
        self.files = files


def merge(inputs: Sequence[str], output: Path, settings: Settings) -> Report:
    """Write the rollouts of `inputs` into `output` and a manifest beside it, each atomically.

    Rows are ordered by run, rollout and row, so the order of the inputs does not matter. Raises ValueError for inputs
    that cannot be one table, and BrokenFiles.
    """
    found = find_rollouts(inputs)
    _refuse_output(output, found)
    configs = _configs(found)
    refuse_twice(found.rollouts, {bank: config.options for bank, config in configs.items()})
    sources = _sources(found, configs, settings)
    while True:
        broken = sorted(found.broken, key=lambda each: each.path)
        if broken and not settings.skip_broken:
            raise BrokenFiles(broken)
        if not sources:
            raise ValueError(f"no rollout is left of {', '.join(inputs)}: {len(broken)} are broken")
        try:
            return _write(sources, configs, output, settings, broken, found.notes)
        except Broken as error:
            # Seen only while its rows were read: the table is begun again without it.
            found.broken.append(error)
            sources = [source for source in sources if source.rollout.path != error.path]


def _refuse_output(output: Path, found: Found) -> None:
    if output.resolve() in {rollout.path for rollout in found.rollouts}:
        raise ValueError(f"--output {output} is one of the inputs")
    if output.suffix != ".parquet":
        raise ValueError(f"--output {output} does not end in .parquet, and that is what is written")
    if output.is_dir():
        raise ValueError(f"--output {output} is a directory")


def _configs(found: Found) -> dict[Path, BankConfig]:
    """By bank; a rollout that config.json lists and that is not there is broken."""
    configs = {}
    for bank in sorted({rollout.bank for rollout in found.rollouts} | found.banks):
        try:
            configs[bank] = read_config(bank)
        except Broken as error:
            found.broken.append(error)
            configs[bank] = BankConfig()
        if bank in found.banks:
            missing = [name for name in sorted(configs[bank].rows) if not (bank / name).exists()]
            found.broken += [Broken(bank / name, "listed in config.json and not there") for name in missing]
    return configs


def _sources(found: Found, configs: dict[Path, BankConfig], settings: Settings) -> list[Source]:
    """In the order of the table; a file whose beginning or end shows that it is broken is left out."""
    names = run_names({rollout.bank for rollout in found.rollouts})
    sources = []
    for rollout in found.rollouts:
        listed = configs[rollout.bank].rows.get(rollout.path.name)
        try:
            schema, rows = read_schema(rollout, listed), row_count(rollout)
            if schema is not None and not {"schema_version", "rollout_id"} <= set(schema.names):
                raise Broken(rollout.path, "no token bank's table: it has no schema_version and rollout_id")
            if None not in (rows, listed) and rows != listed:
                raise Broken(rollout.path, f"{rows} rows, and config.json says {listed}")
        except Broken as error:
            found.broken.append(error)
        else:
            sources.append(Source(rollout, names[rollout.bank], schema, listed if rows is None else rows))
    return sorted(sources, key=lambda source: (source.run, source.rollout.rollout_id))


def _write(
    sources: Sequence[Source],
    configs: dict[Path, BankConfig],
    output: Path,
    settings: Settings,
    broken: Sequence[Broken],
    notes: Sequence[str],
) -> Report:
    schema = _merged_schema(sources, settings)
    output.parent.mkdir(parents=True, exist_ok=True)
    counts: list[tuple[str, str, int]] = []
    sizes = sum(source.rollout.path.stat().st_size for source in sources)
    with LateProgress("merging", sizes) as progress, atomic_path(output) as temporary:
        writing = parquet_settings(pa, schema)
        writing["write_statistics"] += [name for name in ("source_run",) if name in schema.names]
        with pq.ParquetWriter(temporary, schema, **writing) as writer:
            for table in _row_groups(_batches(sources, schema, settings, counts, progress.advance), schema):
                writer.write_table(table, row_group_size=len(table))
    banks = {source.run: source.rollout.bank for source in sources}
    options = {run: configs[bank].options for run, bank in banks.items()}
    record = manifest(banks, options, counts, schema.names, broken)
    write_json(output.with_name(f"{output.name}.manifest.json"), record)
    return Report(record, list(broken), list(notes))


def _merged_schema(sources: Sequence[Source], settings: Settings) -> pa.Schema:
    """The columns of all files, which must agree but for the order; with --fill-missing, the columns of any."""
    dropped = RAW_LISTS if settings.drop_raw_topk else ()
    first, fields = None, {}
    for source in sources:
        if source.schema is None:
            continue
        schema = pa.schema([field for field in source.schema if field.name not in dropped])
        taken = [name for name in SOURCES if name in schema.names]
        if taken:
            raise ValueError(f"{source.rollout.path} has a column {taken[0]}: it is merged already")
        first = first or (source, schema)
        if not settings.fill_missing:
            fields = fields or {field.name: field for field in schema}
            lines = differences(str(source.rollout.path), schema, str(first[0].rollout.path), first[1])
        else:
            for field in schema:
                fields.setdefault(field.name, field)
            known = pa.schema([fields[name] for name in schema.names])
            lines = differences(str(source.rollout.path), schema, "files before it", known)
        if lines:
            raise ValueError(f"columns differ: {'; '.join(lines)}.{_hint(lines)}")
    if first is None:
        raise ValueError(f"no row in any of {len(sources)} rollouts: there is no table to write")
    sources_too = [pa.field(name, TEXT) for name in SOURCES] if settings.source_columns else []
    return pa.schema([*fields.values(), *sources_too])


def _hint(lines: Iterable[str]) -> str:
    text = " ".join(lines)
    raw = " --drop-raw-topk leaves the raw lists out." if any(name in text for name in RAW_LISTS) else ""
    return raw + (" --fill-missing fills a missing column with nulls." if "only " in text else "")


def _batches(
    sources: Sequence[Source],
    schema: pa.Schema,
    settings: Settings,
    counts: list[tuple[str, str, int]],
    advance: Callable[[float], None],
) -> Iterator[pa.RecordBatch]:
    """Every row in order, in the merged schema; each rollout's number of rows is added to counts when it is through."""
    for source in sources:
        path, size, rows = source.rollout.path, source.rollout.path.stat().st_size, 0
        if source.schema is not None:
            kept = pa.schema([field for field in source.schema if field.name in schema.names])
            for batch in read_batches(source.rollout, kept):
                _check_rows(source.rollout, batch, settings)
                rows += len(batch)
                yield _in_schema(batch, schema, source)
                if source.rows:
                    advance(size * len(batch) / source.rows)
        if source.rows not in (None, rows):
            raise Broken(path, f"{rows} rows, and config.json says {source.rows}")
        counts.append((source.run, path.name, rows))


def _check_rows(rollout: Rollout, batch: pa.RecordBatch, settings: Settings) -> None:
    for version in pc.unique(batch["schema_version"]).to_pylist():
        problem = "a row without schema_version" if version is None else check_version(version, settings.fill_missing)
        if problem:
            raise ValueError(f"{rollout.path}: {problem}")
    others = [each for each in pc.unique(batch["rollout_id"]).to_pylist() if each != rollout.rollout_id]
    if others:
        raise Broken(rollout.path, f"has rows of rollout {others[0]}")


def _in_schema(batch: pa.RecordBatch, schema: pa.Schema, source: Source) -> pa.RecordBatch:
    name = f"{source.run}/{source.rollout.path.relative_to(_run_root(source.rollout.bank)).as_posix()}"
    own = {"source_file": name, "source_run": source.run}

    def column(field: pa.Field) -> pa.Array:
        if field.name in own:
            return pa.DictionaryArray.from_arrays(np.zeros(len(batch), np.int32), pa.array([own[field.name]]))
        return batch[field.name] if field.name in batch.schema.names else pa.nulls(len(batch), field.type)

    return pa.RecordBatch.from_arrays([column(field) for field in schema], schema=schema)


def _run_root(bank: Path) -> Path:
    return bank.parent if bank.name == "token_bank" else bank


def _row_groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of exactly ROW_GROUP rows, and what is left at the end; one dictionary a text column in each."""
    pending, rows = [], 0
    for batch in batches:
        pending.append(batch)
        rows += len(batch)
        while rows >= ROW_GROUP:
            table = pa.Table.from_batches(pending, schema)
            yield table.slice(0, ROW_GROUP).unify_dictionaries()
            pending = table.slice(ROW_GROUP).to_batches()
            rows -= ROW_GROUP
    if rows:
        yield pa.Table.from_batches(pending, schema).unify_dictionaries()
