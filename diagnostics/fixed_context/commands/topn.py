"""matched_fixed_context_topn: top-N tables of every gain file under a directory."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..parser import Parser
from ..progress import phase
from ..statistics.bootstrap import Clusters
from ..statistics.gain import load_gains
from ..statistics.tables import Row, write_summary, write_tables
from ..statistics.topn import RATIOS, top_rows
from .cli import add_column_flags, add_setting_flags, columns_of, run_command, settings_of, stderr_console

FILE = "fixed_context_metrics.parquet"
_SHOWN = (
    "dataset",
    "ratio",
    "n",
    "selector",
    "kept",
    "gain_per_kept",
    "gain_per_kept_low",
    "gain_per_kept_high",
    "gain",
    "q3_share",
    "mean_H",
    "mean_D",
    "mean_C",
    "tokens",
    "prompts",
    "note",
)


def build_parser() -> Parser:
    parser = Parser(
        prog="matched_fixed_context_topn", description="Every selector at exactly the same number of tokens."
    )
    parser.add_argument(
        "--input-root", type=Path, required=True, help=f"a gain file, or a directory searched for {FILE}"
    )
    parser.add_argument("--out-dir", type=Path, required=True)
    parser.add_argument(
        "--ratios", default=",".join(f"{r:g}" for r in RATIOS), help="retention ratios (default: %(default)s)"
    )
    add_column_flags(parser)
    add_setting_flags(parser, "q_low", "q_high", "h_quantile", "d_quantile", "use_quadrant", "bootstrap", "seed")
    parser.set_defaults(bootstrap=500)
    return parser


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


def work(arguments: argparse.Namespace) -> list[Path]:
    settings, ratios = settings_of(arguments), parse_ratios(arguments.ratios)
    rows: list[Row] = []
    pairs: list[Row] = []
    datasets = {}
    files = gain_files(arguments.input_root)
    with phase(stderr_console(), "gain files", len(files)) as bar:
        for name, path in files.items():
            table = load_gains(path, columns=columns_of(arguments), settings=settings, other=["KLr"], name=name)
            clusters = Clusters(table.prompt, settings.bootstrap, settings.seed)
            more, other = top_rows(table, clusters, settings, ratios)
            rows += [{"dataset": name} | row for row in more]
            pairs += [{"dataset": name} | row for row in other]
            size = {"tokens": len(table), "prompts": clusters.count, "counts": table.counts}
            datasets[name] = {"path": str(path)} | size
            bar.advance(1)
    title = (
        f"Selectors at the same n ({len(datasets)} gain file{'s' * (len(datasets) > 1)}, 95% intervals over prompts)"
    )
    paths = write_tables(arguments.out_dir, "topn", rows, title, _SHOWN)
    paths += write_tables(arguments.out_dir, "topn_differences", pairs, "Gain per kept token, a less b")
    summary = {"ratios": list(ratios), "settings": vars(settings), "datasets": datasets, "topn": rows}
    return [*paths, write_summary(arguments.out_dir / "summary.json", summary)]


def parse_ratios(text: str) -> tuple[float, ...]:
    """Raises ValueError on what is not a ratio in (0, 1], or comes twice."""
    try:
        ratios = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise ValueError(f"--ratios {text!r} must be numbers with commas, such as 0.01,0.10") from None
    if not ratios or len(set(ratios)) < len(ratios):
        raise ValueError(f"--ratios {text!r} must name each ratio once")
    for ratio in ratios:
        if not 0 < ratio <= 1:
            raise ValueError(f"--ratios {ratio:g} is outside 0..1 (0 excluded)")
    return ratios


def gain_files(root: Path) -> dict[str, Path]:
    """Name -> file: the file itself, or every fixed_context_metrics.parquet below a directory by its place there."""
    if root.is_file():
        return {root.stem: root}
    found = sorted(root.rglob(FILE))
    if not found:
        raise ValueError(f"--input-root {root}: no {FILE} there")
    return {str(path.parent.relative_to(root)): path for path in found}
