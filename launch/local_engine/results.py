"""From finished runs to results.json and the table in the terminal."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from torch import Tensor

from .experiment import Baseline, RunResult
from .statistics import Interval, cluster_bootstrap

_DIGITS = 3


def result_records(baseline: Baseline, results: list[RunResult], seed: int) -> list[dict[str, Any]]:
    """One record per run, means in nats a token with _low and _high, a 95% prompt-cluster bootstrap interval.

    gain: KL(p_T||p_theta0) - KL(p_T||p_theta) on the held-out frozen contexts. reverse_gain: the same of
    KL(p_theta||p_T), which OPD descends. vs_random: the gain less that of `random` at the same ratio and seed, token
    by token; null where there is none.
    """
    random_runs = {
        (result.run.method.ratio, result.run.seed): result for result in results if result.run.method.mask == "random"
    }
    cluster = baseline.frozen.prompt

    def interval(name: str, values: Tensor) -> dict[str, float]:
        return _named(name, cluster_bootstrap(values.double().numpy(), cluster, seed))

    records = []
    for result in results:
        method = result.run.method
        control = random_runs.get((method.ratio, result.run.seed))
        gain = baseline.frozen.before.forward - result.held_out.forward
        versus = {f"vs_random_{part}": None for part in ("mean", "low", "high")}
        if control is not None and control is not result:
            versus = interval("vs_random", control.held_out.forward - result.held_out.forward)
        records.append(
            {
                **result.run.identity,
                **interval("gain", gain),
                **interval("reverse_gain", baseline.frozen.before.reverse - result.held_out.reverse),
                **versus,
                "heldout_loss": result.solution_loss,
                "heldout_loss_before": baseline.student_loss,
                "heldout_loss_teacher": baseline.teacher_loss,
                "kept_tokens": sum(row["kept_tokens"] for row in result.metrics),
                "valid_tokens": sum(row["valid_tokens"] for row in result.metrics),
                "seconds": result.seconds,
            }
        )
    return records


def _named(name: str, interval: Interval) -> dict[str, float]:
    return {f"{name}_mean": interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def print_table(console: Console, records: list[dict[str, Any]], baseline: Baseline) -> None:
    prompts, tokens = len(np.unique(baseline.frozen.prompt)), len(baseline.frozen.prompt)
    table = Table(
        title=f"Gain in nats a token on {tokens:,} frozen tokens of {prompts} held-out prompts, with 95% intervals",
        title_justify="left",
        caption="gain: KL(teacher||student) before - after; reverse gain: the same of KL(student||teacher), which OPD "
        f"descends; loss: nats a token on real held-out solutions, {baseline.student_loss:.3f} before, teacher "
        f"{baseline.teacher_loss:.3f}. Intervals cover the choice of prompts, not the randomness of training.",
        caption_justify="left",
    )
    table.add_column("method")
    several = len({record["seed"] for record in records}) > 1
    for name in (*(["seed"] if several else []), "kept / valid", "gain", "reverse gain", "gain - random", "loss", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for record in records:
        seed = [str(record["seed"])] if several else []
        table.add_row(
            record["label"],
            *seed,
            f"{record['kept_tokens']:,} / {record['valid_tokens']:,}",
            _shown(record, "gain"),
            _shown(record, "reverse_gain"),
            _shown(record, "vs_random"),
            f"{record['heldout_loss']:.3f}",
            f"{record['seconds']:.1f}",
        )
    console.print(table)


def _shown(record: dict[str, Any], name: str) -> str:
    mean, low, high = (record[f"{name}_{part}"] for part in ("mean", "low", "high"))
    return "" if mean is None else f"{mean:+.{_DIGITS}f} [{low:+.{_DIGITS}f}, {high:+.{_DIGITS}f}]"
