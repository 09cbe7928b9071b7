"""Time, memory and accuracy of the full-distribution losses, ours beside what else could be used.

    python benchmarks/losses.py                                          # 128 tokens, bfloat16, on the CPU
    python benchmarks/losses.py --device cuda --tokens 8192 --repeats 30 --json
    python benchmarks/losses.py --losses jsd topk_tail --providers ours eager_fp32 --keep-ratio 0.1

From logits to each token's loss and back by a weighted sum. Every provider is first held against float64 on other rows,
half of them nearly converged, in memory poisoned with NaN; one that is wrong is not timed, and the exit status is 1.
Then all take turns. Times: medians with the tenth and ninetieth percentile; ours is timed twice, and the difference is
noise. Memory: greatest growth over the inputs, in units of one logits tensor in its own dtype, measured apart, on a CPU
in a process each. docs/performance.md has the results, and who the providers are.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from typing import Any

import torch
from losses_providers import PROVIDERS, Provider, Unavailable
from losses_providers.measure import copy_bandwidth
from losses_providers.problem import LOSSES
from losses_providers.records import OUT_OF_MEMORY, Settings, loss_records, peak_alone

COLUMNS = (
    ("loss", "{loss:<20}"),
    ("provider", "{provider:<11}"),
    ("ms", "{seconds:>10}"),
    ("p10", "{seconds_p10:>10}"),
    ("p90", "{seconds_p90:>10}"),
    ("user ms", "{user_seconds:>10}"),
    ("again ms", "{again_seconds:>10}"),
    ("warm-up ms", "{warm_up_seconds:>10}"),
    ("peak", "{peak_over_input:>7}"),
    ("forward", "{forward_peak_over_input:>7}"),
    ("error", "{max_relative_error:>9}"),
    ("gradient", "{gradient_error:>9}"),
    ("of floor", "{floor_fraction:>8}"),
    ("", "{error}"),
)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; --help has the rest."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--tokens", type=int, help="rows of logits")
    parser.add_argument("--vocab", type=int, help="columns of logits")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), help="of the logits")
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=LOSSES, metavar="LOSS")
    parser.add_argument("--providers", nargs="+", default=list(PROVIDERS), choices=tuple(PROVIDERS), metavar="PROVIDER")
    parser.add_argument("--top-k", type=int, help="entries of the teacher's list in topk_tail")
    parser.add_argument("--keep-ratio", type=float, help="share of the tokens that the loss counts")
    parser.add_argument("--repeats", type=int, help="rounds in which every provider has a turn")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--no-memory", action="store_true", help="leave the pass that measures memory out")
    parser.add_argument("--json", action="store_true", help="one JSON record a line instead of a table")
    parser.add_argument("--memory-alone", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(**{f.name: f.default for f in fields(Settings)})
    return parser


def find_providers(names: list[str], device: str) -> list[Provider]:
    """Those that can run; says on stderr why the others cannot. Raises ValueError where none can."""
    found = []
    for name in dict.fromkeys(names):
        try:
            found.append(PROVIDERS[name](device))
        except Unavailable as reason:
            print(f"{name}: left out: {reason}", file=sys.stderr)
    if not found:
        raise ValueError(f"--providers {' '.join(names)}: none can run on {device}")
    return found


def table_row(record: dict[str, Any]) -> str:
    def cell(name: str, value: Any) -> Any:
        if value is None:
            return "" if name == "error" else "-"
        return f"{1000 * value:.3f}" if "seconds" in name else value

    cells = {name: cell(name, value) for name, value in record.items()}
    return " ".join(form.format(**cells) for _, form in COLUMNS).rstrip()


def table_head() -> str:
    widths = [form.partition(":")[2].rstrip("}") for _, form in COLUMNS]
    return " ".join(f"{title:{width}}" for (title, _), width in zip(COLUMNS, widths, strict=True)).rstrip()


def main(arguments: list[str] | None = None) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        settings = Settings(**{f.name: getattr(options, f.name) for f in fields(Settings)})
        torch.set_num_threads(settings.threads)
        providers = find_providers(options.providers, settings.device)
    except ValueError as error:
        parser.error(str(error))
    if options.memory_alone:
        print(peak_alone(settings, options.losses[0], providers[0]))
        return 0
    bandwidth = None
    if settings.device == "cuda":
        bandwidth = copy_bandwidth()
        print(f"{torch.cuda.get_device_name()}: copies {bandwidth / 1e12:.3f} TB/s", file=sys.stderr)
    if not options.json:
        print(table_head())
    wrong = False
    for loss in dict.fromkeys(options.losses):
        for record in loss_records(settings, loss, providers, bandwidth, memory=not options.no_memory):
            print(json.dumps(record) if options.json else table_row(record), flush=True)
            wrong |= record["error"] not in (None, OUT_OF_MEMORY)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
