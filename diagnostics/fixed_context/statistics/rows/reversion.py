"""What regression to the mean could explain: slopes, KL before held constant, and D measured in other ways."""

from __future__ import annotations

import numpy as np

from ..bootstrap import Clusters, Estimate, absent
from ..gain import Floats, GainTable
from ..regression import MODELS, Fit, fit, model_terms
from ..regression_to_mean import BASES, held_fit, slopes
from ..settings import Settings
from ..tables import Row
from ..unit_scores import UnitScores, unit_scores


def reversion_rows(table: GainTable, settings: Settings, clusters: Clusters, independent: Floats | None) -> list[Row]:
    """check: slopes, held or independent; see regression_to_mean for what each can and cannot exclude.

    slopes: quantity slope, reversion, contraction, kept. held: a row a (basis, quantity), with the same without KL
    before as `observed`. independent: coefficients and gaps of the split model with another measure of D.
    """
    gain, scores = table.gain["absolute"], unit_scores(table, settings)
    if np.ptp(gain) == 0:
        return [{"check": "all", "quantity": "", "note": f"all gains are equal ({gain[0]:g})"}]
    if table.before is None or table.after is None:
        return [{"check": "all", "quantity": "", "note": "the file has no KL before and after"}]
    rows: list[Row] = []
    found = slopes(table.before, table.after, clusters)
    if isinstance(found, str):
        rows.append({"check": "slopes", "quantity": "", "note": found})
    else:
        for name in ("slope", "reversion", "contraction", "kept"):
            rows.append({"check": "slopes", "quantity": name} | getattr(found, name).row())
    rows += _held_rows(table, scores, gain, clusters)
    measures = {f"another K: {k}": table.disagreement[k] for k in table.ks if k != table.topk}
    measures |= {
        f"{name} of the same student": table.other[name] for name in ("KLr", "KLr_union") if name in table.other
    }
    if independent is not None:
        measures["D of another student"] = independent
    for label, other in measures.items():
        rows += _independent_rows(label, table, settings, clusters, other)
    return rows


def _held_rows(table: GainTable, scores: UnitScores, gain: Floats, clusters: Clusters) -> list[Row]:
    rows: list[Row] = []
    for model in MODELS:
        without = fit(model, model_terms(model, table, scores), gain, clusters)
        plain = {row["quantity"]: row["value"] for row in _fit_rows(without)}
        for basis in BASES:
            fitted = held_fit(table, scores, gain, clusters, model, basis)
            head = {"check": "held", "basis": basis}
            rows += [head | {"observed": plain.get(row["quantity"])} | row for row in _fit_rows(fitted)]
    return rows


def _independent_rows(label: str, table: GainTable, settings: Settings, clusters: Clusters, other: Floats) -> list[Row]:
    known = np.isfinite(other)
    if not known.all():
        note = f"not known at {int((~known).sum()):,} of {len(known):,} tokens"
        return [{"check": "independent", "quantity": "", "measure": label, "note": note}]
    scores = unit_scores(table, settings, disagreement=other)
    fitted = fit("split", model_terms("split", table, scores), table.gain["absolute"], clusters)
    spread = other.std() > 0 and table.disagreement[table.topk].std() > 0
    correlation = float(np.corrcoef(other, table.disagreement[table.topk])[0, 1]) if spread else None
    head = {"check": "independent", "measure": label, "correlation": correlation}
    return [head | row for row in _fit_rows(fitted)]


_QUANTITIES = ("compatibility", "learnable", "incompatible")


def _fit_rows(fitted: Fit) -> list[Row]:
    """A row a coefficient of _QUANTITIES and a gap that the fit has; a single row where there is no fit."""
    if not fitted.coefficients:
        nothing = absent(fitted.note, fitted.tokens, fitted.prompts)
        return [{"quantity": "compatibility" if fitted.gap_raw is None else "gap_raw"} | nothing.row()]
    found: dict[str, Estimate | None] = {c.term: c.bootstrap for c in fitted.coefficients if c.term in _QUANTITIES}
    found |= {"gap": fitted.gap, "gap_raw": fitted.gap_raw}
    return [{"quantity": name} | e.row() for name, e in found.items() if e is not None]
