"""The main results of one gain file in a dozen lines: number, interval, what it says about 0, n."""

from __future__ import annotations

from dataclasses import dataclass

from ..statistics.tables import Row
from .tables import Tables, first


@dataclass(frozen=True)
class Finding:
    """value, low, high: None where there is no number; note then says why. p: corrected for the tests of its table
    where corrected is true."""

    label: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    corrected: bool
    tokens: int | None
    prompts: int | None
    note: str

    @property
    def reading(self) -> str:
        if self.value is None:
            return self.note or "no number"
        if self.low is None or self.high is None:
            return self.note or "no interval"
        if self.low <= 0 <= self.high:
            return "not distinguishable from 0"
        side = "above 0" if self.low > 0 else "below 0"
        lost = self.corrected and self.p is not None and self.p >= 0.05
        return f"{side}, but not after correction for the table's tests" if lost else side


def findings(tables: Tables, topk: int) -> list[Finding]:
    """At the main K, of the absolute gain."""
    regression = {"gain": "absolute", "k": topk}
    gain = first(tables.rows("gain_summary", gain="absolute"))
    found = [
        _finding("Mean gain", "nats a token", gain, "mean", tables.note("gain_summary")),
        _regression(
            tables,
            regression,
            "compatibility",
            "compatibility",
            "Support C, at equal H and D",
            "standardised",
        ),
        _regression(tables, regression, "split", "learnable", "Learnable disagreement D C", "standardised"),
        _regression(tables, regression, "split", "incompatible", "Incompatible disagreement D (1 - C)", "standardised"),
        _regression(tables, regression, "split", "gap_raw", "Learnable less incompatible", "nats a unit of D"),
    ]
    for method, label in (
        ("bootstrap", "Q3: high- less low-support tokens"),
        ("matched", "the same, matched on H, D, position, teacher entropy and KL before"),
        ("matched_adjusted", "the same, matched and adjusted"),
    ):
        row = first(tables.rows("q3_bootstrap_matching_summary", gain="absolute", k=topk, method=method))
        found.append(
            _finding(label, "nats a token", row, "difference", tables.note("q3_bootstrap_matching_summary"), "p_holm")
        )
    for row in tables.rows("regression_to_mean", check="held", quantity="gap_raw"):
        label = f"Learnable less incompatible, KL before held constant (any {row.get('basis')})"
        found.append(_finding(label, "nats a unit of D", row, "value", ""))
    shuffled = first(tables.rows("placebo_summary", placebo="shuffled_gap"))
    if shuffled.get("p") is not None:
        note = (
            f"observed {shuffled['value']:+.4f}; 95% of {shuffled['shuffles']} shuffles lie in "
            f"[{shuffled['low']:+.4f}, {shuffled['high']:+.4f}]"
        )
        row = {"p": shuffled["p"], "tokens": shuffled["tokens"], "prompts": shuffled["prompts"], "note": note}
        found.append(
            _finding("Placebo: learnable less incompatible with C shuffled", "nats a unit of D", row, "value", "")
        )
    return found


def _regression(tables: Tables, head: Row, model: str, term: str, label: str, unit: str) -> Finding:
    row = first(tables.rows("regression_summary", **head, model=model, term=term))
    why = first(tables.rows("regression_summary", **head, model=model)).get("note") or tables.note("regression_summary")
    return _finding(label, unit, row, "beta", why, "p_holm", plain=True)


def _finding(
    label: str, unit: str, row: Row, name: str, why: str, p: str | None = None, plain: bool = False
) -> Finding:
    """plain: low and high without the name before them."""
    low, high = ("low", "high") if plain or name == "value" else (f"{name}_low", f"{name}_high")
    own = "p" if plain or name == "value" else f"{name}_p"
    corrected = p is not None and row.get(p) is not None
    return Finding(
        label, unit, row.get(name), row.get(low), row.get(high), row.get(p) if corrected else row.get(own), corrected,
        row.get("tokens"), row.get("prompts"), row.get("note") or (why if not row else ""),
    )  # fmt: skip
