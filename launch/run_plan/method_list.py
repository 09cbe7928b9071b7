"""METHOD_LIST: `method[:ratio[:index]]` entries between spaces or commas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ta_opd import find_selector
from ta_opd.methods import SELECTORS
from ta_opd.option_fields import did_you_mean

from .kinds import split_list

DEFAULT_RATIO = 0.1
INDEX_STEP = 10


@dataclass(frozen=True)
class Entry:
    """One method of a suite. ratio: with at least two decimals, as it stands in names. index: offset of the ports.
    own_ratio: whether the entry itself names its ratio. typed: the method as it was written.
    forced: a ratio that was written and is not taken."""

    method: str
    mask: str
    ratio: str
    index: int
    own_ratio: bool
    typed: str
    forced: str = ""

    @property
    def notes(self) -> str:
        given = "" if self.typed in (self.method, self.mask) else f"given as {self.typed}"
        forced = f"ratio {self.forced} asked, forced to 1.0" if self.forced else ""
        return "; ".join(filter(None, (given, forced)))


def parse_method_list(text: str, name: str = "METHOD_LIST", default_ratio: float = DEFAULT_RATIO) -> list[Entry]:
    """Entries in order; the index of the n-th is 10 n where none is given, and pure_opd's ratio is always 1.

    Raises ValueError naming the variable, the entry and what is allowed: no entry, an unknown method (with the nearest
    known one), a ratio outside (0, 1], an index that is no whole number, an entry given twice.
    """
    entries: list[Entry] = []
    for position, typed in enumerate(split_list(text), 1):
        method, *rest = typed.split(":")
        if len(rest) > 2:
            raise ValueError(f"{name}: {typed!r} is not method, method:ratio or method:ratio:index")
        selector = _selector(name, typed, method)
        ratio = ratio_of(f"{name}: {typed!r}", rest[0]) if rest and rest[0] else default_ratio
        forced = rest[0] if selector.mask == "full" and rest and rest[0] and ratio != 1 else ""
        ratio = 1.0 if selector.mask == "full" else ratio
        index = _index(name, typed, rest[1]) if len(rest) == 2 else INDEX_STEP * position
        entry = Entry(selector.name, selector.mask, ratio_text(ratio), index, bool(rest and rest[0]), method, forced)
        if any((other.method, other.ratio) == (entry.method, entry.ratio) for other in entries):
            raise ValueError(f"{name} names {entry.method}:{entry.ratio} twice ({typed!r} is the second)")
        entries.append(entry)
    if not entries:
        raise ValueError(f'{name} has no entry; give some like "teachability:0.10:20 random:0.10:30"')
    return entries


def ratio_of(where: str, text: str) -> float:
    """Raises ValueError beginning with `where` unless 0 < ratio <= 1."""
    try:
        ratio = float(text)
    except ValueError as error:
        raise ValueError(f"{where}: the ratio {text!r} is not a number in (0, 1]") from error
    if not 0 < ratio <= 1:
        raise ValueError(f"{where}: the ratio {text} is outside (0, 1]")
    return ratio


def ratio_text(ratio: float) -> str:
    """At least two decimals, as many as it has: the spelling of the embedded engine's labels."""
    text = f"{ratio:.2f}"
    return text if float(text) == ratio else repr(ratio)


def sweep(methods: str, ratios: str) -> str:
    """A METHOD_LIST of every method at every ratio, methods of the full budget once. Raises ValueError naming
    METHODS or RATIOS."""
    names = [entry.method for entry in parse_method_list(methods, "METHODS")]
    values = [ratio_text(ratio_of("RATIOS", text)) for text in split_list(ratios)]
    if not values:
        raise ValueError('RATIOS has no entry; give some like "0.05 0.10 0.20"')
    if len(set(values)) < len(values):
        raise ValueError(f"RATIOS {ratios!r} names a ratio twice")
    full = [name for name in names if find_selector(name).mask == "full"]
    pairs = [(name, "1.00") for name in full]
    pairs += [(name, ratio) for ratio in values for name in names if name not in full]
    return " ".join(f"{name}:{ratio}:{INDEX_STEP * n}" for n, (name, ratio) in enumerate(pairs, 1))


def known_methods() -> Sequence[str]:
    return [name for s in SELECTORS for name in dict.fromkeys((s.name, s.mask, *s.aliases))]


def _selector(name: str, typed: str, method: str):
    try:
        return find_selector(method)
    except ValueError as error:
        near = did_you_mean(method, known_methods()) or f"; known are {', '.join(s.name for s in SELECTORS)}"
        raise ValueError(f"{name}: {typed!r}: unknown method {method!r}{near}") from error


def _index(name: str, typed: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise ValueError(f"{name}: {typed!r}: the index {text!r} is not a whole number from 0")
    return int(text)
