"""The gain on frozen contexts: of a run's fixed_context_metrics.parquet, or of the embedded engine's results.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from local_engine.statistics import cluster_bootstrap
from token_bank_merge.broken import Broken

from .runs import read_json

METRICS = Path("fixed_context") / "fixed_context_metrics.parquet"
_COLUMNS = ("G_KLf", "prompt_id", "loss_mask")


@dataclass(frozen=True)
class Gain:
    """Mean fall of KL(p_T||p_theta), nats a token, with a 95% interval over prompts; None for one prompt."""

    mean: float
    low: float | None
    high: float | None


def metrics_gain(path: Path) -> Gain:
    """Over the tokens inside the loss mask, with the bootstrap of the embedded engine's results.

    Raises Broken for a file that is cut off, lacks a column, or has a token without a gain.
    """
    try:
        table = pq.read_table(path, columns=list(_COLUMNS), partitioning=None, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise Broken(path, f"cut off or not Parquet: {error}") from error
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        why = " (scored without --baseline-metrics)" if missing == ["G_KLf"] else ""
        raise Broken(path, f"has no column {', '.join(missing)}{why}")
    table = table.filter(pc.equal(table["loss_mask"], 1))
    values = table["G_KLf"].to_numpy()
    unknown = int(np.count_nonzero(~np.isfinite(values)))
    if unknown or not len(values):
        raise Broken(path, f"{unknown} of {len(values)} tokens have no gain" if len(values) else "no token")
    interval = cluster_bootstrap(values.astype(np.float64), table["prompt_id"].to_numpy(), seed=0)
    return Gain(interval.mean, interval.low, interval.high)


def engine_gain(engine: Path, method: str, ratio: float, seed: int) -> Gain | None:
    """The record of this run in results.json; None where it is not there (yet). Raises Broken."""
    path = engine / "results.json"
    if not path.exists():
        return None
    try:
        for record in read_json(path):
            if (record["method"], record["ratio"], record["seed"]) == (method, ratio, seed):
                return Gain(record["gain_mean"], record["gain_low"], record["gain_high"])
    except (KeyError, TypeError) as error:
        raise Broken(path, f"no results of the embedded engine: {error!r}") from error
    return None
