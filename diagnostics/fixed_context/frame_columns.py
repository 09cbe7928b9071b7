"""Columns of a frame as arrays, refused with the file's name where they are not what they are taken for."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray


def numbers(frame: pl.DataFrame, column: str, where: str) -> NDArray[np.float64]:
    """float64 [N], NaN where not known. Raises ValueError where the column is not numeric."""
    if not frame[column].dtype.is_numeric():
        raise ValueError(f"{where}: column {column} is {frame[column].dtype}, not a number")
    return frame[column].cast(pl.Float64).fill_null(np.nan).to_numpy()


def labels(frame: pl.DataFrame, column: str, where: str) -> NDArray:
    """[N], names of what a token belongs to: text or whole numbers. Raises ValueError where they are something else, or
    one is missing."""
    values = frame[column]
    if values.dtype.is_float() or values.dtype.is_nested() or values.dtype in (pl.Null, pl.Object):
        raise ValueError(f"{where}: column {column} is {values.dtype}, not a name: text or a whole number")
    if missing := values.null_count():
        raise ValueError(f"{where}: column {column} is empty at {missing:,} of {len(values):,} rows")
    return values.to_numpy()


def loss_mask(frame: pl.DataFrame, column: str, where: str) -> NDArray[np.int8]:
    """int8 [N], 1 for a token that counts. Raises ValueError where the column is not numeric, or one is missing."""
    values = numbers(frame, column, where)
    if missing := int(np.isnan(values).sum()):
        raise ValueError(f"{where}: column {column} is empty at {missing:,} of {len(values):,} rows")
    return (values != 0).astype(np.int8)
