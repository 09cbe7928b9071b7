"""Does the finding hang on how support is defined? Every definition at every K, on several datasets.

mass: teacher mass on the student's top K (C). mass_bound: that on what both lists share. overlap: shared tokens / K.
jaccard: shared tokens / tokens of either list. bhattacharyya: sum of sqrt(p_T p_S) on the union. prefix_ema: C averaged
along the response.
"""

from __future__ import annotations

import numpy as np

from .bootstrap import Clusters, correct
from .gain import SUPPORT, GainTable
from .q3_gap import METHODS, q3_gap
from .regression import fit, model_terms
from .settings import DEFAULTS, Settings
from .tables import Row
from .unit_scores import unit_scores

KS = (8, 16, 32)
QUANTITIES = ("compatibility", "gap", "gap_raw", *(f"q3_{method}" for method in METHODS))


def audit_rows(table: GainTable, settings: Settings = DEFAULTS, ks: tuple[int, ...] = KS) -> list[Row]:
    """A row a (definition, K, quantity): value, low, high, se, p, corrected over the table; rank_correlation of the
    definition with C at the main K. What the file lacks is a row that says so."""
    clusters = Clusters(table.prompt, settings.bootstrap, settings.seed)
    rows: list[Row] = []
    for definition in SUPPORT:
        for k in sorted({*ks, *table.ks} - {0} or {table.topk}):
            head = {"dataset": table.name, "definition": definition, "k": k}
            values = table.support.get((definition, k))
            if values is None or k not in table.disagreement:
                if definition != "prefix_ema":
                    why = "D" if values is not None else SUPPORT[definition]
                    rows += _without(head, f"the file has no {why} at K = {k}", table, clusters)
                continue
            known = np.isfinite(values) & np.isfinite(table.disagreement[k])
            if not known.all():
                note = f"not known at {int((~known).sum()):,} of {len(known):,} tokens"
                rows += _without(head, note, table, clusters)
                continue
            head["rank_correlation"] = _rank_correlation(values, table.support["mass", table.topk])
            rows += [head | row for row in _quantities(table, settings, clusters, definition, k)]
    correct(rows)
    return rows


def _quantities(table: GainTable, settings: Settings, clusters: Clusters, definition: str, k: int) -> list[Row]:
    gain, scores = table.gain["absolute"], unit_scores(table, settings, k, definition)
    empty = {"value": None, "low": None, "high": None, "se": None, "p": None}
    size = {"tokens": len(table), "prompts": clusters.count}
    fitted = fit("compatibility", model_terms("compatibility", table, scores), gain, clusters)
    found = fitted.coefficient("compatibility")
    first = (
        {"value": found.beta, "low": found.low, "high": found.high, "se": found.se, "p": found.p} if found else empty
    )
    rows = [{"quantity": "compatibility"} | first | size | {"note": fitted.note}]
    split = fit("split", model_terms("split", table, scores), gain, clusters)
    rows += [{"quantity": "gap"} | split.gap.row(), {"quantity": "gap_raw"} | split.gap_raw.row()]
    gaps = q3_gap(table, scores, table.support[definition, k], gain, clusters, settings).gaps
    return rows + [{"quantity": f"q3_{method}"} | gaps[method].row() for method in METHODS]


def _without(head: Row, note: str, table: GainTable, clusters: Clusters) -> list[Row]:
    nothing = {"value": None, "low": None, "high": None, "se": None, "p": None}
    size = {"tokens": len(table), "prompts": clusters.count, "note": note}
    return [head | {"rank_correlation": None, "quantity": name} | nothing | size for name in QUANTITIES]


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    from scipy.stats import rankdata

    a, b = rankdata(a), rankdata(b)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else None


def agreement_rows(rows: list[Row]) -> list[Row]:
    """A row a (definition, K, quantity) over datasets: how many have it, how many intervals lie above and below 0."""
    keys = list(dict.fromkeys((r["definition"], r["k"], r["quantity"]) for r in rows))
    out = []
    for key in keys:
        found = [r for r in rows if (r["definition"], r["k"], r["quantity"]) == key and r["low"] is not None]
        out.append(
            {
                "definition": key[0],
                "k": key[1],
                "quantity": key[2],
                "datasets": len(found),
                "above_0": sum(r["low"] > 0 for r in found),
                "below_0": sum(r["high"] < 0 for r in found),
                "least": min((r["value"] for r in found), default=None),
                "greatest": max((r["value"] for r in found), default=None),
            }
        )
    return out
