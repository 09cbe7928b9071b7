"""How much closer to the teacher each frozen token came, with the scores that it had before.

gain = KL(p_T || p_before) - KL(p_T || p_after), nats, full vocabulary (TA-OPD, arXiv 2605.26844, G_fix). All scores
are the baseline's: what a selector could know before training. Axes: N tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..baseline import SAME, TOKEN, check_comparable, with_baseline
from ..frame_columns import labels, loss_mask, numbers
from ..schema import IDENTITY, read_metadata, read_metrics
from .gain_checks import check_gains_known, check_ranges, divergences, notes_of_left_out, unknown_at_ks
from .provenance import Models, models_of
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
_OF_THE_TOKEN = {name for name, _ in IDENTITY}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GainTable:
    """N tokens with a gain, float64 [N] each, nats unless said otherwise.

    name: of the file or dataset. prompt: [N], the cluster. context, tok_pos, token_id: [N]. gain: measure -> [N].
    before, after: the divergence whose fall the gain is; None where the file has only the gain. entropy,
    teacher_entropy, position (0..1), disagreement: K -> [N]. support: (definition, K) -> [N] in [0, 1]. other: further
    columns of the baseline that an analysis asked for. in_q3: bool [N], the file's own quadrant, with --use-quadrant.
    topk: the main K. counts: rows read, those left out by why, and unknown_at_kN, tokens without D or C at that K, NaN
    there. models: whose the scores are. notes: what a reader must know of the file.
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
    models: Models = field(default_factory=Models)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def ks(self) -> tuple[int, ...]:
        return tuple(sorted(self.disagreement))

    def at(self, k: int) -> GainTable:
        """The tokens at which D and C of that K are known; the table itself where they are at all."""
        known = np.isfinite(self.disagreement[k]) & np.isfinite(self.support.get(("mass", k), 0.0))
        return self if known.all() else self._rows(known)

    def _rows(self, kept: NDArray[np.bool_]) -> GainTable:
        def of(value):
            if isinstance(value, np.ndarray):
                return value[kept]
            return {key: of(inner) for key, inner in value.items()} if isinstance(value, dict) else value

        return replace(self, **{f.name: of(getattr(self, f.name)) for f in fields(self)})


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
    left out. Tokens with loss mask 0, and those for which a number of `columns` is not known, are left out and counted.
    Raises ValueError, naming the file and the column, where one is missing, holds no number, a divergence is not known
    or a gain is not its fall, or no token is left.
    """
    if (input_path is None) == (before is None) or (before is None) != (after is None):
        raise ValueError("give --input FILE, or both --before FILE and --after FILE")
    path = Path(input_path or after)
    metadata = read_metadata(path)
    if input_path is not None:
        frame, models = read_metrics(path), models_of(metadata)
    else:
        if untold := [name for name in SAME if name not in metadata]:
            raise ValueError(f"{after}: its metadata do not tell {', '.join(untold)}: not from eval_fixed_context_bank")
        told = read_metadata(before)
        check_comparable(metadata, told, before, "--before")
        models, tables = models_of(metadata, told), [read_metrics(file, TOKEN).to_arrow() for file in (after, before)]
        try:
            frame = pl.from_arrow(with_baseline(*tables))
        except ValueError as error:
            raise ValueError(f"--before {before}: {error}") from error
    return gain_table(frame, models.topk or 0, columns, settings, other, name or path.stem, str(path), models)


def gain_table(
    frame: pl.DataFrame,
    topk: int = 0,
    columns: Columns = DEFAULT_COLUMNS,
    settings: Settings = DEFAULTS,
    other: Iterable[str] = (),
    name: str = "gain",
    path: str = "",
    models: Models | None = None,
) -> GainTable:
    """The GainTable of a joined frame. topk: the K of the unsuffixed columns (0: not known). Errors as load_gains."""
    where = path or name
    has_base = any(c.startswith("base_") for c in frame.columns)

    def resolve(column: str) -> str:
        """The score as it was before training: base_NAME in a file with a baseline."""
        as_it_is = not has_base or column in _OF_THE_TOKEN or column.startswith("base_")
        return column if as_it_is else f"base_{column}"

    scores = {key: resolve(getattr(columns, key)) for key in ("h", "d", "c", "ht")}
    wanted = scores | {"position": columns.position, "group": columns.group, "gain": columns.gain}
    missing = [column for column in wanted.values() if column not in frame.columns]
    if missing:
        hint = "; score with --baseline-metrics, or give --before and --after" if columns.gain in missing else ""
        raise ValueError(f"{where}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}{hint}")
    counts = {"rows": len(frame), "masked": 0}
    if "loss_mask" in frame.columns:
        kept = frame.filter(loss_mask(frame, "loss_mask", where) != 0)
        counts["masked"] = len(frame) - len(kept)
        frame = kept
    found = {key: numbers(frame, wanted[key], where) for key in ("gain", "h", "d", "c", "ht", "position")}
    check_ranges(frame, where)
    check_gains_known(frame, columns.gain, found["gain"], where)
    known = np.ones(len(frame), dtype=bool)
    for key, values in found.items():
        finite = np.isfinite(values)
        if len(frame) and not finite.any():
            raise ValueError(f"{where}: column {wanted[key]} holds no number")
        counts[f"without_{wanted[key]}"] = int((~finite).sum())
        known &= finite
    counts["tokens"] = int(known.sum())
    if not known.any():
        raise ValueError(f"{where}: no token of {len(frame):,} has all of {', '.join(wanted.values())}")
    counts = {key: value for key, value in counts.items() if value or not key.startswith("without_")}
    left_out = notes_of_left_out(counts)

    frame = frame.filter(pl.Series(known))
    found = {key: values[known] for key, values in found.items()}
    before, after = divergences(frame, columns.gain, found["gain"], where)
    prompt = labels(frame, columns.group, where)
    disagreement = _by_k(frame, resolve(columns.d), found["d"], topk, where)
    support = _supports(frame, resolve, columns.c, found["c"], topk, where)
    unknown, notes = unknown_at_ks(disagreement, support, topk)
    return GainTable(
        name=name,
        prompt=prompt,
        context=labels(frame, "context_id", where) if "context_id" in frame.columns else prompt,
        tok_pos=frame["tok_pos"].to_numpy() if "tok_pos" in frame.columns else np.arange(len(frame)),
        token_id=frame["token_id"].to_numpy() if "token_id" in frame.columns else np.zeros(len(frame), np.int64),
        gain=gain_measures(found["gain"], before, after, settings.winsor_low, settings.winsor_high),
        before=before,
        after=after,
        entropy=found["h"],
        teacher_entropy=found["ht"],
        position=found["position"],
        disagreement=disagreement,
        support=support,
        topk=topk,
        other=_others(frame, resolve, other, has_base, where),
        in_q3=_q3_of_file(frame, resolve, where) if settings.use_quadrant else None,
        counts=counts | unknown | {"prompts": len(np.unique(prompt))},
        models=models or Models(),
        notes=left_out + notes,
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


def _suffixes(frame: pl.DataFrame, column: str) -> dict[int, str]:
    """K -> column for NAME_k8, NAME_k32, ..."""
    heads = [c for c in frame.columns if c.startswith(f"{column}_k") and c[len(column) + 2 :].isdigit()]
    return {int(c[len(column) + 2 :]): c for c in heads}


def _by_k(frame: pl.DataFrame, column: str, main: Floats, topk: int, where: str) -> dict[int, Floats]:
    extra = _suffixes(frame, column)
    return {topk: main} | {k: numbers(frame, name, where) for k, name in extra.items() if k != topk}


def _supports(frame, resolve, chosen: str, main: Floats, topk: int, where: str) -> dict[tuple[str, int], Floats]:
    """Every definition of support at every K that the file has; "mass" is what --c-col names."""
    found: dict[tuple[str, int], Floats] = {}
    for definition, column in (SUPPORT | {"mass": chosen}).items():
        if resolve(column) in frame.columns:
            found[definition, topk] = main if definition == "mass" else numbers(frame, resolve(column), where)
        if definition not in _WITHOUT_K:
            for k, name in _suffixes(frame, resolve(column)).items():
                found.setdefault((definition, k), numbers(frame, name, where))
    return found


def _others(frame: pl.DataFrame, resolve, names: Iterable[str], has_base: bool, where: str) -> dict[str, Floats]:
    """NAME is the baseline's, after:NAME the one after training; those that are not there are left out."""
    found = {}
    for name in names:
        plain = name.removeprefix("after:")
        column = resolve(plain) if plain == name else plain
        if column in frame.columns and (has_base or plain == name):
            found[name] = numbers(frame, column, where)
    return found


def _q3_of_file(frame: pl.DataFrame, resolve, where: str) -> NDArray[np.bool_]:
    """Low entropy, high divergence by the file's normalised axes, split at their medians as its quadrants are."""
    names = [resolve("H_norm"), resolve("D_norm")]
    if missing := [name for name in names if name not in frame.columns]:
        raise ValueError(f"{where}: --use-quadrant needs {', '.join(missing)}")
    h, d = (numbers(frame, name, where) for name in names)
    return (h < quantile(h, 0.5)) & (d >= quantile(d, 0.5))


def quantile(values: Floats, q: float) -> float:
    """Over the numbers that are known; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(np.quantile(known, q)) if len(known) else np.nan
