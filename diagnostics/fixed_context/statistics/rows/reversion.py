"""What regression to the mean could explain: slopes, nulls, and D measured in other ways."""

from __future__ import annotations

import numpy as np

from ..bootstrap import Clusters, Estimate
from ..gain import Floats, GainTable
from ..regression import Fit, fit, model_terms
from ..regression_to_mean import adjusted_fit, beyond_nulls, slopes
from ..settings import Settings
from ..tables import Row
from ..unit_scores import unit_scores


def reversion_rows(table: GainTable, settings: Settings, clusters: Clusters, independent: Floats | None) -> list[Row]:
    """check: slopes, null or independent; see regression_to_mean for what each can and cannot exclude.

    slopes: quantity slope, reversion, contraction, kept. null: a row a (quantity, null): observed, under_null, share,
    and value = beyond. adjusted and independent: gaps of the split model.
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
    beyond = beyond_nulls(table, scores, clusters)
    if isinstance(beyond, str):
        rows.append({"check": "null", "quantity": "", "note": beyond})
    else:
        for b in beyond:
            rows.append(
                {
                    "check": "null", "quantity": b.quantity, "null": b.null, "observed": b.observed.value,
                    "under_null": b.under_null.value, "under_null_low": b.under_null.low,
                    "under_null_high": b.under_null.high, "share": b.share,
                }
                | b.beyond.row()
            )  # fmt: skip
    rows += _gap_check("adjusted", "KL before among the controls", adjusted_fit(table, scores, gain, clusters))
    measures = {f"another K: {k}": table.disagreement[k] for k in table.ks if k != table.topk}
    measures |= {
        f"{name} of the same student": table.other[name] for name in ("KLr", "KLr_union") if name in table.other
    }
    if independent is not None:
        measures["D of another student"] = independent
    for label, other in measures.items():
        rows += _independent_rows(label, table, settings, clusters, other)
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
    return [row | {"correlation": correlation} for row in _gap_check("independent", label, fitted)]


def _gap_check(check: str, label: str, fitted: Fit) -> list[Row]:
    head = {"check": check, "measure": label}
    if not fitted.coefficients:
        return [head | {"quantity": "gap_raw", "tokens": fitted.tokens, "prompts": fitted.prompts, "note": fitted.note}]
    estimates: dict[str, Estimate] = {
        term: c.bootstrap for term in ("learnable", "incompatible") if (c := fitted.coefficient(term)) is not None
    }
    return [
        head | {"quantity": name} | e.row()
        for name, e in (estimates | {"gap": fitted.gap, "gap_raw": fitted.gap_raw}).items()
    ]
