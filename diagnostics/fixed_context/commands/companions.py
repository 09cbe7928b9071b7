"""The metrics files that stand beside a gain file, checked to be what they are given for: --null and --independent."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from ..baseline import TOKEN, match_rows
from ..frame_columns import numbers
from ..schema import KEY, metrics_file_schema, read_metadata, read_metrics
from ..statistics.gain import Floats, GainTable, load_gains
from ..statistics.provenance import Models, models_of
from ..statistics.settings import Columns, Settings


def null_gains(
    path: Path, main: Path, table: GainTable, columns: Columns, settings: Settings
) -> tuple[GainTable, list[str]]:
    """The gains of the student before training, scored twice, and notes of what could not be compared.

    main: the metrics file of `table`. Raises ValueError unless both sides are one student, that of table before
    training, with its teacher, K and tokens.
    """
    null = load_gains(path, columns=columns, settings=settings)
    own, other = table.models, null.models
    checked = [
        ("student_fingerprint", other.before, other.student, "before and {} after: not one student scored twice"),
        ("student_fingerprint", other.before, own.before, "there, {} before training here"),
        *_same_scores(own, other),
    ]
    untold = _refuse_unequal(f"--null {path}", checked) | _refuse_other_tokens(f"--null {path}", main, path)
    return null, _notes("--null", path, untold)


def independent_disagreement(path: Path, main: Path, table: GainTable, columns: Columns) -> tuple[Floats, list[str]]:
    """float64 [N]: D of the table's tokens for another student, and notes of what could not be compared.

    main: the metrics file of `table`. Raises ValueError unless the teacher, K and tokens are those of table, and the
    student is neither of its two.
    """
    flag, own, other = f"--independent {path}", table.models, models_of(read_metadata(path))
    untold = _refuse_unequal(flag, _same_scores(own, other))
    for when, student in (("before", own.before), ("after", own.student)):
        if None in (student, other.student):
            untold.add("student_fingerprint")
        elif student == other.student:
            raise ValueError(f"{flag}: its student {student!r} is the one {when} training, not another one")
    untold |= _refuse_other_tokens(flag, main, path)
    frame = read_metrics(path, needed=[columns.d], columns=[columns.d])
    frame = frame.select(*KEY, pl.Series("d", numbers(frame, columns.d, str(path))))
    mine = pl.DataFrame({"context_id": table.context, "tok_pos": table.tok_pos})
    mine = mine.with_columns(pl.col("tok_pos").cast(frame["tok_pos"].dtype))
    joined = mine.join(frame, on=KEY, how="left", maintain_order="left", validate="1:1")
    return joined["d"].to_numpy(), _notes("--independent", path, untold)


Pair = tuple[str, Any, Any, str]
"""A fact, its value there and here, and how to say that they differ ({}: the one here)."""


def _same_scores(own: Models, other: Models) -> list[Pair]:
    return [
        ("teacher_fingerprint", other.teacher, own.teacher, "there, {} here"),
        ("topk", other.topk, own.topk, "there, {} here"),
    ]


def _refuse_unequal(flag: str, pairs: Iterable[Pair]) -> set[str]:
    """Facts that one side does not tell. Raises ValueError where two that are told differ."""
    untold = set()
    for name, there, here, how in pairs:
        if None in (there, here):
            untold.add(name)
        elif there != here:
            raise ValueError(f"{flag}: {name} {there!r} {how.format(repr(here))}")
    return untold


def _refuse_other_tokens(flag: str, main: Path, path: Path) -> set[str]:
    """Columns of TOKEN that one file lacks. Raises ValueError where the two do not hold the same tokens."""
    there = [set(metrics_file_schema(file).names) for file in (main, path)]
    shared = [name for name in TOKEN if name not in KEY and name in there[0] & there[1]]
    try:
        match_rows(*(read_metrics(file, columns=shared) for file in (main, path)), other="that file")
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from error
    return {name for name in TOKEN if name not in KEY} - set(shared)


def _notes(flag: str, path: Path, untold: set[str]) -> list[str]:
    return [f"{flag} {path.name}: not compared, the files do not tell: {', '.join(sorted(untold))}"] if untold else []
