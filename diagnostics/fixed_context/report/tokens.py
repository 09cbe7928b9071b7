"""What the token view shows, packed: every score of every token, top tokens, kept tokens, quadrants, contexts.

Axes: N tokens of all contexts, one context after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from ta_opd.selection import budget

from ..schema import KEY, QUADRANTS
from ..statistics.gain import GainTable
from ..statistics.settings import Settings
from ..statistics.topn import select_all
from ..statistics.unit_scores import unit_scores
from .packing import NO_TEXT, StringTable, pack_bits, pack_half, pack_numbers
from .scores import FIXED, SCORES
from .source import Source

SHOWN_TOP = 5
LISTS = {"before": "base_student_top", "after": "student_top", "teacher": "teacher_top"}

TextOf = Callable[[int], str]


def token_view(
    source: Source, text_of: TextOf, prompts: dict[str, str | None], ratios: Iterable[float]
) -> dict[str, Any]:
    """The packed token view. text_of: a token's text. prompts: context id -> text, None where it is not known. ratios:
    budgets at which every selector is replayed, over the tokens that count."""
    frame, table = source.frame, source.table
    rows = _rows_of_table(frame, table)
    strings = StringTable()
    texts = _Texts(text_of, strings)
    columns = _columns(frame, table, source.settings, rows)
    return {
        "contexts": _contexts(frame, prompts),
        "tokens": pack_numbers(texts.numbers(frame["token_id"].to_numpy())),
        "counted": pack_bits(_spread(np.ones(len(table), dtype=bool), rows, len(frame), False)),
        "columns": {name: pack_half(values) for name, values in columns.items()},
        "quantiles": {name: _quantiles(values) for name, values in columns.items()},
        "scores": _score_info(columns),
        "quadrants": _quadrants(table, source.settings, rows, len(frame)),
        "kept": _kept(table, source.settings, ratios, rows, len(frame)),
        "top": {name: top for name, head in LISTS.items() if (top := _top(frame, head, texts)) is not None},
        "strings": list(strings),
    }


class _Texts:
    """Token ids to numbers of texts, each id looked up once."""

    def __init__(self, text_of: TextOf, strings: StringTable) -> None:
        self._text_of, self._strings = text_of, strings

    def numbers(self, ids: NDArray) -> NDArray:
        known, where = np.unique(ids, return_inverse=True)
        named = [NO_TEXT if token < 0 else self._strings.number(self._text_of(int(token))) for token in known]
        return np.array(named, dtype=np.uint32)[where].reshape(ids.shape)


def _rows_of_table(frame: pl.DataFrame, table: GainTable) -> NDArray:
    """The row in `frame` of each token of the table."""
    here = frame.select(KEY).with_row_index("row")
    there = pl.DataFrame({"context_id": table.context, "tok_pos": table.tok_pos}).with_columns(
        pl.col("tok_pos").cast(frame["tok_pos"].dtype)
    )
    return there.join(here, on=KEY, how="left", maintain_order="left", validate="1:1")["row"].to_numpy()


def _spread(values: NDArray, rows: NDArray, size: int, empty: Any) -> NDArray:
    """Values of the table's tokens in all N places."""
    out = np.full(size, empty, dtype=np.result_type(values, type(empty)))
    out[rows] = values
    return out


def _columns(frame: pl.DataFrame, table: GainTable, settings: Settings, rows: NDArray) -> dict[str, NDArray]:
    """KEY:WHEN -> float64 [N], NaN where it is not known; columns that the file lacks are left out."""

    def read(name: str) -> NDArray | None:
        if name not in frame.columns:
            return None
        return frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()

    found: dict[str, NDArray | None] = {}
    for score in SCORES:
        before, after = read(f"base_{score.column}"), read(score.column)
        change = read(score.gain) if score.gain else None
        if score.gain is None and before is not None and after is not None:
            change = after - before
        found |= {f"{score.key}:before": before, f"{score.key}:after": after, f"{score.key}:change": change}
    unit = unit_scores(table, settings)
    fixed = {
        "learnable": unit.learnable, "incompatible": unit.incompatible, "h_norm": unit.h, "d_norm": unit.d,
        "c_norm": unit.c,
    }  # fmt: skip
    found |= {f"{name}:": _spread(values, rows, len(frame), np.nan) for name, values in fixed.items()}
    found |= {"teacher_entropy:": read("Ht"), "teacher_logp:": read("teacher_logp_sampled")}
    return {name: values for name, values in found.items() if values is not None and not np.isnan(values).all()}


def _score_info(columns: dict[str, NDArray]) -> list[dict[str, Any]]:
    named = [(s.key, s.label, s.unit, s.help) for s in SCORES] + [(key, *text) for key, text in FIXED.items()]
    return [
        {"key": key, "label": label, "unit": unit, "help": text, "when": when}
        for key, label, unit, text in named
        if (when := [name.partition(":")[2] for name in columns if name.startswith(f"{key}:")])
    ]


def _quantiles(values: NDArray) -> list[float]:
    """The 101 percentiles of what is finite, to five digits."""
    finite = values[np.isfinite(values)]
    return [float(f"{q:.5g}") for q in np.quantile(finite, np.linspace(0, 1, 101))] if len(finite) else []


def _quadrants(table: GainTable, settings: Settings, rows: NDArray, size: int) -> str:
    """A digit a token: 1 to 4 as QUADRANTS, split where the analysis splits Q3; 0 where the token does not count."""
    unit = unit_scores(table, settings)
    high_h = unit.h >= np.quantile(unit.h, settings.h_quantile)
    high_d = unit.d >= np.quantile(unit.d, settings.d_quantile)
    number = np.where(high_d, np.where(high_h, 1, 3), np.where(high_h, 2, 4))
    assert len(QUADRANTS) == 4
    return "".join(map(str, _spread(number, rows, size, 0)))


def _kept(table: GainTable, settings: Settings, ratios: Iterable[float], rows: NDArray, size: int) -> list[dict]:
    """A selector's tokens at each ratio: {ratio, n, selector, kept, note, bits}."""
    kept = []
    for ratio in ratios:
        n = budget(ratio, len(table))
        for chosen in select_all(table, n, settings):
            if chosen.name == "random_expected":
                continue
            bits = _spread(chosen.weight > 0, rows, size, False)
            head = {"ratio": ratio, "n": n, "selector": chosen.name, "kept": int(bits.sum()), "note": chosen.note}
            kept.append(head | {"bits": pack_bits(bits)})
    return kept


def _top(frame: pl.DataFrame, head: str, texts: _Texts) -> dict[str, Any] | None:
    """The first entries of a list of ids and log-probs, row by row."""
    if f"{head}_ids" not in frame.columns or frame[f"{head}_ids"].null_count():
        return None
    ids, logps = (_matrix(frame[f"{head}_{name}"]) for name in ("ids", "logps"))
    ids, probs = ids[:, :SHOWN_TOP], np.exp(logps[:, :SHOWN_TOP])
    known = np.where(np.isfinite(ids), ids, -1).astype(np.int64)
    return {"width": ids.shape[1], "tokens": pack_numbers(texts.numbers(known)), "probs": pack_half(probs)}


def _matrix(lists: pl.Series) -> NDArray:
    """float64 [N, K] of lists of one length, NaN for null."""
    return lists.explode().cast(pl.Float64).fill_null(np.nan).to_numpy().reshape(len(lists), -1)


def _contexts(frame: pl.DataFrame, prompts: dict[str, str | None]) -> list[dict[str, Any]]:
    grouped = frame.group_by("context_id", maintain_order=True).agg(
        pl.len().alias("length"), pl.col("G_KLf").filter(pl.col("loss_mask") != 0).mean().alias("gain")
    )
    return [
        {"id": name, "length": length, "gain": _known(gain), "prompt": prompts.get(name)}
        for name, length, gain in grouped.iter_rows()
    ]


def _known(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.5g}")
