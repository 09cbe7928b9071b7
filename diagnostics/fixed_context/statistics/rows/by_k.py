"""The tables that an analysis of every K goes through."""

from __future__ import annotations

from collections.abc import Iterator

from ..bootstrap import Clusters
from ..gain import GainTable
from ..settings import Settings
from ..unit_scores import UnitScores, unit_scores


def each_k(
    table: GainTable, settings: Settings, clusters: Clusters
) -> Iterator[tuple[int, GainTable, UnitScores, Clusters]]:
    """Every K whose support is there, with the tokens at which its D and C are known."""
    for k in table.ks:
        if ("mass", k) not in table.support:
            continue
        part = table.at(k)
        prompts = clusters if part is table else Clusters(part.prompt, settings.bootstrap, settings.seed)
        yield k, part, unit_scores(part, settings, k), prompts
