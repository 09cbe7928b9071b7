"""Gain files with top lists, the analyses of them, and the words that the report shows."""

import numpy as np
import polars as pl
from fixed_context.report.figures import draw_plot
from fixed_context.report.figures.style import Panel, Plot
from fixed_context.report.page import Page
from fixed_context.report.source import Source
from fixed_context.report.tokens import token_view
from fixed_context.schema import write_parquet
from fixed_context.statistics.gain import gain_table
from fixed_context.statistics.settings import Settings

from ..statistics.planted import planted_frame

METADATA = {"schema_version": 1, "topk": 16, "teacher_fingerprint": "t", "dtype": "float32", "vocabulary": 500}
WORDS = [
    "</script><script>window.broken = 1</script>",
    " the",
    "\n",
    "<img src=x onerror=window.broken=2>",
    "\u202e",
    "é",
]


ANALYSES = ("gain", "topn", "support", "measures", "replay", "within", "reach", "budget")
MASKS = "teachability:0.1 entropy:0.1 random:0.1"


def write_runs(path):
    """Two methods at two budgets, three seeds each; the last budget of random has one seed."""
    lines = ["method,budget,gain,seed"]
    for method, gain in (("teachability", 0.3), ("random", 0.1)):
        lines += [f"{method},0.1,{gain + seed / 100},{seed}" for seed in range(3)]
    path.write_text("\n".join([*lines, "random,0.3,0.2,0", ""]))
    return path


def text_of(token):
    return WORDS[token] if token < len(WORDS) else f"w{token}"


def metrics_frame(effect="learnable", prompts=15, tokens=12, vocabulary=500, seed=0):
    """A planted gain file with both models' lists; token 0 of the first context is WORDS[0], and so on."""
    frame = planted_frame(effect, prompts, tokens, seed)
    rng = np.random.default_rng(seed)
    ids = frame["token_id"].to_numpy().copy()
    ids[: len(WORDS)] = range(len(WORDS))
    probabilities = np.sort(rng.dirichlet(np.full(6, 0.4), len(frame))[:, :5], axis=1)[:, ::-1]
    lists = {"token_id": ids}
    for side in ("student", "teacher", "base_student"):
        top = rng.integers(0, vocabulary, (len(frame), 5))
        top[:, 0] = ids
        lists[f"{side}_top_ids"] = pl.Series(top.astype(np.int32), dtype=pl.Array(pl.Int32, 5))
        lists[f"{side}_top_logps"] = pl.Series(
            np.log(np.maximum(probabilities, 1e-9)).astype(np.float32), dtype=pl.Array(pl.Float32, 5)
        )
    after = {
        "Coverlap": pl.col("base_Coverlap"),
        "Hs": pl.col("base_Hs") * 0.9,
        "Cmass_exact": pl.col("base_Cmass_exact") * 0.99,
        "Ht": pl.col("base_Ht"),
    }
    reach = {name: pl.Series((rng.random(len(frame)) < 0.7).astype(np.int8)) for name in ("base_reach_t1", "reach_t1")}
    return frame.with_columns(**lists).with_columns(**after).with_columns(**reach)


def write_metrics(path, frame, **metadata):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_parquet(path, frame.to_arrow(), METADATA | metadata)
    return path


def source_of(frame, path="gain.parquet"):
    return Source(path, METADATA, frame, gain_table(frame, 16, other=["KLr"]), Settings())


def small_page(frame, ratios=(0.1, 0.2), prompts=None, **parts):
    """A page of the tokens, and one small figure."""
    source = source_of(frame)
    plot = Plot("one", "One figure", "a caption", [Panel("a line\nn = 2", lambda axes: axes.plot([0, 1]), "a line")])
    view = token_view(source, text_of, prompts or {}, ratios)
    page = {"title": "A report", "lead": "lead", "notes": [], "findings": [], "tables": {}, "facts": {"topk": 16}}
    page |= {"drawings": [draw_plot(plot)], "absent": [], "view": view}
    return Page(**(page | parts))
