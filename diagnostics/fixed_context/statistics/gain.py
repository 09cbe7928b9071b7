"""How much closer to the teacher each frozen token came, with the scores that it had before.

gain = KL(p_T || p_before) - KL(p_T || p_after), nats, full vocabulary (TA-OPD, arXiv 2605.26844, G_fix). All scores
are the baseline's: what a selector could know before training. Axes: N tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..baseline import SAME, check_comparable, with_baseline
from ..schema import read_metadata, read_metrics
from .settings import DEFAULT_COLUMNS, DEFAULTS, Columns, Settings

RELATIVE_FLOOR = 0.01
"""Nats added to both divergences of the relative gain, so that a token with nothing to learn has none."""
SUPPORT = {
    "mass": "Cmass_exact",
    "mass_bound": "Cmass_topk",
    "overlap": "Coverlap",
    "jaccard": "Cjaccard",
    "bhattacharyya": "CBC",
    "prefix_ema": "Cprefix_ema",
}
"""Definition of the student's support -> its column."""
GAIN_MEASURES = ("absolute", "relative", "winsorised")
_WITHOUT_K = ("prefix_ema",)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GainTable:
    """N tokens with a gain, float64 [N] each, nats unless said otherwise.

    name: of the file or dataset. prompt: [N], the cluster. context, tok_pos, token_id: [N]. gain: measure -> [N].
    before, after: the divergence whose fall the gain is; None where the file has only the gain. entropy,
    teacher_entropy, position (0..1), disagreement: K -> [N]. support: (definition, K) -> [N] in [0, 1]. other: further
    columns of the baseline that an analysis asked for. in_q3: bool [N], the file's own quadrant, with --use-quadrant.
    topk: the main K. counts: rows read, and those left out by why.
    """

    name: str
    prompt: NDArray
    context: NDArray
    tok_pos: NDArray
    token_id: NDArray
    gain: dict[str, Floats]
    before: Floats | None
    after: Floats | None
    entropy: Floats
    teacher_entropy: Floats
    position: Floats
    disagreement: dict[int, Floats]
    support: dict[tuple[str, int], Floats]
    topk: int
    other: dict[str, Floats] = field(default_factory=dict)
    in_q3: NDArray[np.bool_] | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def ks(self) -> tuple[int, ...]:
        return tuple(sorted(self.disagreement))


def load_gains(
    input_path: str | Path | None = None,
    before: str | Path | None = None,
    after: str | Path | None = None,
    columns: Columns = DEFAULT_COLUMNS,
    settings: Settings = DEFAULTS,
    other: Sequence[str] = (),
    name: str | None = None,
) -> GainTable:
    """Read a metrics file with base_* and G_* columns, or join two, one to one (see baseline.with_baseline).

    other: baseline columns read beside those of the analyses, after:NAME for the one after training; missing ones are
    left out. Tokens with loss mask 0, and
    those for which a number of `columns` is not known, are left out and counted. Raises ValueError, naming the file
    and the column, where one is missing, holds no number, or no token is left.
    """
    if (input_path is None) == (before is None) or (before is None) != (after is None):
        raise ValueError("give --input FILE, or both --before FILE and --after FILE")
    path = Path(input_path or after)
    if input_path is not None:
        frame, metadata = read_metrics(path), read_metadata(path)
    else:
        metadata = read_metadata(after)
        if untold := [name for name in SAME if name not in metadata]:
            raise ValueError(f"{after}: its metadata do not tell {', '.join(untold)}: not from eval_fixed_context_bank")
        check_comparable(metadata, read_metadata(before), before)
        frame = pl.from_arrow(with_baseline(read_metrics(after).to_arrow(), read_metrics(before).to_arrow()))
    return gain_table(frame, int(metadata.get("topk", 0)), columns, settings, other, name or path.stem, str(path))


def gain_table(
    frame: pl.DataFrame,
    topk: int = 0,
    columns: Columns = DEFAULT_COLUMNS,
    settings: Settings = DEFAULTS,
    other: Iterable[str] = (),
    name: str = "gain",
    path: str = "",
) -> GainTable:
    """The GainTable of a joined frame. topk: the K of the unsuffixed columns (0: not known). Errors as load_gains."""
    where = path or name
    has_base = any(c.startswith("base_") for c in frame.columns)

    def resolve(column: str) -> str:
        """The baseline's column of that name: base_NAME in a file with a baseline."""
        if has_base and f"base_{column}" in frame.columns:
            return f"base_{column}"
        return column

    wanted = {key: resolve(getattr(columns, key)) for key in ("h", "d", "c", "ht", "position", "group")}
    wanted["gain"] = columns.gain
    missing = [column for column in wanted.values() if column not in frame.columns]
    if missing:
        hint = "; score with --baseline-metrics, or give --before and --after" if columns.gain in missing else ""
        raise ValueError(f"{where}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}{hint}")
    counts = {"rows": len(frame), "masked": 0}
    if "loss_mask" in frame.columns:
        kept = frame.filter(pl.col("loss_mask") != 0)
        counts["masked"] = len(frame) - len(kept)
        frame = kept
    numbers = {key: _number(frame, wanted[key], where) for key in ("gain", "h", "d", "c", "ht", "position")}
    known = np.ones(len(frame), dtype=bool)
    for key, values in numbers.items():
        finite = np.isfinite(values)
        if len(frame) and not finite.any():
            raise ValueError(f"{where}: column {wanted[key]} holds no number")
        counts[f"without_{wanted[key]}"] = int((~finite).sum())
        known &= finite
    counts["tokens"] = int(known.sum())
    if not known.any():
        raise ValueError(f"{where}: no token of {len(frame):,} has all of {', '.join(wanted.values())}")
    counts = {key: value for key, value in counts.items() if value or not key.startswith("without_")}

    frame = frame.filter(pl.Series(known))
    numbers = {key: values[known] for key, values in numbers.items()}
    measure = columns.gain.removeprefix("G_")
    before, after = (
        _number(frame, column, where) if column in frame.columns else None for column in (f"base_{measure}", measure)
    )
    return GainTable(
        name=name,
        prompt=frame[wanted["group"]].to_numpy(),
        context=frame["context_id"].to_numpy() if "context_id" in frame.columns else frame[wanted["group"]].to_numpy(),
        tok_pos=frame["tok_pos"].to_numpy() if "tok_pos" in frame.columns else np.arange(len(frame)),
        token_id=frame["token_id"].to_numpy() if "token_id" in frame.columns else np.zeros(len(frame), np.int64),
        gain=gain_measures(numbers["gain"], before, after, settings.winsor_low, settings.winsor_high),
        before=before,
        after=after,
        entropy=numbers["h"],
        teacher_entropy=numbers["ht"],
        position=numbers["position"],
        disagreement=_by_k(frame, resolve, columns.d, numbers["d"], topk, where),
        support=_supports(frame, resolve, columns.c, numbers["c"], topk, where),
        topk=topk,
        other=_others(frame, resolve, other, has_base, where),
        in_q3=_q3_of_file(frame, resolve, where) if settings.use_quadrant else None,
        counts=counts | {"prompts": frame[wanted["group"]].n_unique()},
    )


def gain_measures(
    gain: Floats, before: Floats | None, after: Floats | None, winsor_low: float = 0.01, winsor_high: float = 0.99
) -> dict[str, Floats]:
    """absolute: nats. relative: ln((before + floor) / (after + floor)), 0.1 is about a tenth less. winsorised: nats,
    clipped to the quantiles winsor_low and winsor_high of all tokens. relative is absent where the divergences are."""
    measures = {"absolute": gain}
    if before is not None and after is not None:
        ratio = (np.maximum(before, 0) + RELATIVE_FLOOR) / (np.maximum(after, 0) + RELATIVE_FLOOR)
        measures["relative"] = np.log(ratio)
    low, high = np.quantile(gain, [winsor_low, winsor_high])
    return measures | {"winsorised": np.clip(gain, low, high)}


def _number(frame: pl.DataFrame, column: str, where: str) -> Floats:
    if not frame[column].dtype.is_numeric():
        raise ValueError(f"{where}: column {column} is {frame[column].dtype}, not a number")
    return frame[column].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _suffixes(frame: pl.DataFrame, column: str) -> dict[int, str]:
    """K -> column for NAME_k8, NAME_k32, ..."""
    heads = [c for c in frame.columns if c.startswith(f"{column}_k") and c[len(column) + 2 :].isdigit()]
    return {int(c[len(column) + 2 :]): c for c in heads}


def _by_k(frame, resolve, column: str, main: Floats, topk: int, where: str) -> dict[int, Floats]:
    extra = _suffixes(frame, resolve(column))
    return {topk: main} | {k: _number(frame, name, where) for k, name in extra.items() if k != topk}


def _supports(frame, resolve, chosen: str, main: Floats, topk: int, where: str) -> dict[tuple[str, int], Floats]:
    """Every definition of support at every K that the file has; "mass" is what --c-col names."""
    found: dict[tuple[str, int], Floats] = {}
    for definition, column in (SUPPORT | {"mass": chosen}).items():
        if resolve(column) in frame.columns:
            found[definition, topk] = main if definition == "mass" else _number(frame, resolve(column), where)
        if definition not in _WITHOUT_K:
            for k, name in _suffixes(frame, resolve(column)).items():
                found.setdefault((definition, k), _number(frame, name, where))
    return found


def _others(frame: pl.DataFrame, resolve, names: Iterable[str], has_base: bool, where: str) -> dict[str, Floats]:
    """NAME is the baseline's, after:NAME the one after training; those that are not there are left out."""
    found = {}
    for name in names:
        plain = name.removeprefix("after:")
        column = resolve(plain) if plain == name else plain
        if column in frame.columns and (has_base or plain == name):
            found[name] = _number(frame, column, where)
    return found


def _q3_of_file(frame: pl.DataFrame, resolve, where: str) -> NDArray[np.bool_]:
    """Low entropy, high divergence by the file's normalised axes, split at their medians as its quadrants are."""
    names = [resolve("H_norm"), resolve("D_norm")]
    if missing := [name for name in names if name not in frame.columns]:
        raise ValueError(f"{where}: --use-quadrant needs {', '.join(missing)}")
    h, d = (_number(frame, name, where) for name in names)
    return (h < quantile(h, 0.5)) & (d >= quantile(d, 0.5))


def quantile(values: Floats, q: float) -> float:
    """Over the numbers that are known; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(np.quantile(known, q)) if len(known) else np.nan
