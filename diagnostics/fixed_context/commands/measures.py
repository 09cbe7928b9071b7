"""opd_measures: how student and teacher agree, along the response and over checkpoints or rollouts."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from ..files import read_parquet
from ..frame_columns import labels, loss_mask, numbers
from ..parser import Parser
from ..replay.bank_reader import bank_files
from ..schema import metrics_file_schema, read_metrics
from ..statistics.bootstrap import Clusters
from ..statistics.gain import Floats
from ..statistics.opd_measures import COLUMNS, from_lists, position_rows, training_rows
from ..statistics.tables import Row, write_summary, write_tables
from .cli import add_setting_flags, named_paths, run_command, settings_of

_LISTS = ("student_top_ids", "student_top_logps", "teacher_top_ids", "teacher_top_logps")


def build_parser() -> Parser:
    parser = Parser(
        prog="opd_measures",
        description="Overlap, overlap-token advantage and entropy gap, by position and over training.",
    )
    parser.add_argument(
        "--input", action="append", required=True, metavar="NAME=PATH",
        help="a checkpoint's metrics file, or a token bank whose rollouts are points of training; repeatable, in order",
    )  # fmt: skip
    parser.add_argument("--output-dir", type=Path, required=True)
    add_setting_flags(parser, "bootstrap", "seed")
    return parser


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


def work(arguments: argparse.Namespace) -> list[Path]:
    settings = settings_of(arguments)
    over: list[Row] = []
    along: list[Row] = []
    for name, path in named_paths(arguments.input, "--input"):
        for label, columns, tok_pos, prompt in _points(name, path):
            clusters = Clusters(prompt, settings.bootstrap, settings.seed)
            over += training_rows({label: (columns, clusters)})
            along += [{"checkpoint": label} | row for row in position_rows(columns, tok_pos, clusters)]
    paths = write_tables(
        arguments.output_dir, "opd_measures_training", over, "Agreement over training, 95% over prompts"
    )
    paths += write_tables(arguments.output_dir, "opd_measures_positions", along, "Agreement along the response")
    return [
        *paths,
        write_summary(arguments.output_dir / "summary.json", {"settings": vars(settings), "training": over}),
    ]


Point = tuple[str, dict[str, Floats], np.ndarray, np.ndarray]


def _points(name: str, path: Path):
    """label, columns, tok_pos, prompt of every checkpoint (metrics file) or rollout (token bank) of an input."""
    if path.is_file() and "context_id" in metrics_file_schema(path).names:
        frame = read_metrics(path, needed=["prompt_id", "loss_mask", "Hs", "Coverlap"])
        yield _point(name, _counting(frame, "loss_mask", path), "prompt_id", path)
        return
    for file in bank_files([path]):
        there = metrics_file_schema(file).names
        wanted = [
            "rollout_id",
            "tok_pos",
            "group_index",
            "loss_mask_original",
            *(n for n in (*COLUMNS, *_LISTS) if n in there),
        ]
        if missing := [n for n in wanted[:4] if n not in there]:
            raise ValueError(f"{file}: missing columns {', '.join(missing)}")
        whole = _counting(pl.from_arrow(read_parquet(file, wanted)), "loss_mask_original", file)
        for (rollout,), frame in whole.group_by(["rollout_id"], maintain_order=True):
            yield _point(f"{name} {rollout}", frame, "group_index", file)


def _counting(frame: pl.DataFrame, mask: str, path: Path) -> pl.DataFrame:
    return frame.filter(loss_mask(frame, mask, str(path)) != 0)


def _point(label: str, frame: pl.DataFrame, prompt: str, path: Path) -> Point:
    where = str(path)
    if not len(frame):
        raise ValueError(f"{where}: no token counts: every loss mask is 0")
    columns = {n: numbers(frame, n, where) for n in COLUMNS if n in frame.columns}
    if "overlap_advantage" not in columns and all(n in frame.columns for n in _LISTS):
        ids = [_matrix(frame[n], -1).astype(np.int64) for n in _LISTS[::2]]
        logps = [_matrix(frame[n], np.nan) for n in _LISTS[1::2]]
        columns |= from_lists(ids[0], logps[0], ids[1], logps[1])
    return label, columns, labels(frame, "tok_pos", where), labels(frame, prompt, where)


def _matrix(lists: pl.Series, empty: float) -> np.ndarray:
    width = lists.dtype.size if isinstance(lists.dtype, pl.Array) else int(lists.list.len().max() or 0)
    flat = lists.explode().cast(pl.Float64).fill_null(empty).to_numpy()
    if flat.size != len(lists) * width:
        raise ValueError("top-k lists of different lengths")
    return flat.reshape(len(lists), width)
