"""How student and teacher agree, along the response and over training: the measures of Rethinking OPD.

arXiv 2604.13016 (thunlp/OPD), top-K lists S_S and S_T of a position:
overlap ratio       |S_S and S_T| / K.
overlap advantage   mean over the shared tokens v of q_S(v) (log q_T(v) - log q_S(v)), q renormalised on them; best 0.
entropy gap         |H(p_T) - H(p_S)|, nats.
overlap mass        sum over the shared tokens of p_S; the teacher's is the bound Cmass_topk.
A position without a shared token has overlap 0, mass 0 and no advantage. Axes: N tokens, K entries.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .bootstrap import Clusters, Floats
from .tables import Row

COLUMNS = ("Hs", "Ht", "Coverlap", "overlap_mass", "overlap_advantage", "Cmass_topk")
POSITION_BINS = 16
_BLOCK = 4096


def measures(columns: Mapping[str, Floats]) -> dict[str, Floats]:
    """measure -> float64 [N], from metrics or token-bank columns; measures whose columns are absent are left out."""
    sources = {
        "overlap_ratio": "Coverlap",
        "overlap_mass": "overlap_mass",
        "teacher_overlap_mass": "Cmass_topk",
        "overlap_advantage": "overlap_advantage",
    }
    found = {name: columns[source] for name, source in sources.items() if source in columns}
    if "Hs" in columns and "Ht" in columns:
        found["entropy_gap"] = np.abs(columns["Ht"] - columns["Hs"])
    return found


def from_lists(
    student_ids: NDArray, student_logps: NDArray, teacher_ids: NDArray, teacher_logps: NDArray
) -> dict[str, Floats]:
    """Coverlap, overlap_mass and overlap_advantage of N positions from top-K lists [N, K], nats.

    Ids below 0 and log-probs that are NaN are empty entries; a position where one list is empty is NaN.
    """
    n = len(student_ids)
    out = {name: np.full(n, np.nan) for name in ("Coverlap", "overlap_mass", "overlap_advantage")}
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        ids, other = student_ids[rows], teacher_ids[rows]
        log_s, log_t = student_logps[rows].astype(np.float64), teacher_logps[rows].astype(np.float64)
        held, given = (ids >= 0) & np.isfinite(log_s), (other >= 0) & np.isfinite(log_t)
        same = (ids[:, :, None] == other[:, None, :]) & held[:, :, None] & given[:, None, :]
        shared = same.any(2)
        log_t_there = np.where(shared, np.take_along_axis(np.where(given, log_t, 0.0), same.argmax(2), 1), -np.inf)
        log_s = np.where(shared, log_s, -np.inf)
        known, count = held.any(1) & given.any(1), shared.sum(1)
        p = np.exp(log_s)
        mass = p.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            q_s = p / mass[:, None]
            log_z_t = np.log(np.exp(log_t_there).sum(1))[:, None]
            terms = np.where(shared, q_s * ((log_t_there - log_z_t) - (log_s - np.log(mass)[:, None])), 0.0)
            out["overlap_advantage"][rows] = np.where(known & (count > 0), terms.sum(1) / count, np.nan)
            out["Coverlap"][rows] = np.where(known, count / held.sum(1), np.nan)
        out["overlap_mass"][rows] = np.where(known, mass, np.nan)
    return out


def position_rows(
    columns: Mapping[str, Floats], tok_pos: NDArray, clusters: Clusters, gain: Floats | None = None
) -> list[Row]:
    """A row a (measure, bin of positions): mean with its interval; bins have about equal numbers of tokens."""
    found = measures(columns) | ({} if gain is None else {"gain": gain})
    edges = np.unique(np.quantile(tok_pos, np.linspace(0, 1, POSITION_BINS + 1)))
    place = np.clip(np.searchsorted(edges, tok_pos, side="right") - 1, 0, max(len(edges) - 2, 0))
    rows: list[Row] = []
    for name, values in found.items():
        for bin_ in np.unique(place):
            inside = (place == bin_) & np.isfinite(values)
            span = tok_pos[place == bin_]
            head = {"measure": name, "pos_low": int(span.min()), "pos_high": int(span.max())}
            rows.append(head | clusters.mean(values, inside).row("mean"))
    return rows


def training_rows(checkpoints: Mapping[str, tuple[Mapping[str, Floats], Clusters]]) -> list[Row]:
    """A row a (checkpoint or rollout, measure), in the order given: how agreement moves over training."""
    return [
        {"checkpoint": label, "measure": name} | clusters.mean(values, np.isfinite(values)).row("mean")
        for label, (columns, clusters) in checkpoints.items()
        for name, values in measures(columns).items()
    ]
