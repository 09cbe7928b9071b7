"""From finished runs to results.json, one record a run, and summary.json, one a method over its seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .experiment import Baseline, RunResult
from .statistics import cluster_bootstrap

Records = list[dict[str, Any]]
GAINS = ("gain", "reverse_gain", "vs_random")


def result_records(baseline: Baseline, results: Sequence[RunResult], seed: int) -> Records:
    """One record per run, means in nats a token with _low and _high, a 95% prompt-cluster bootstrap interval.

    gain: KL(p_T||p_theta0) - KL(p_T||p_theta) on the held-out frozen contexts. reverse_gain: the same of
    KL(p_theta||p_T), which OPD descends. vs_random: the gain less that of `random` at the same ratio and seed, token
    by token; null where there is none.
    """
    gains = _token_gains(baseline, results)
    return [result.run.identity | _measures(baseline, [result], gains, seed) for result in results]


def summary_records(baseline: Baseline, results: Sequence[RunResult], seed: int) -> Records:
    """One record per method over its seeds: as result_records, the interval covering prompts and seeds, not the
    pre-trained pair; gain_by_seed has each seed's mean."""
    gains = _token_gains(baseline, results)
    records = []
    for label in dict.fromkeys(result.run.method.label for result in results):
        runs = [result for result in results if result.run.method.label == label]
        identity = {key: value for key, value in runs[0].run.identity.items() if key != "seed"}
        by_seed = [float(gains(run, "gain").mean()) for run in runs]
        records.append(
            identity
            | {"seeds": [run.run.seed for run in runs]}
            | _measures(baseline, runs, gains, seed)
            | {"gain_by_seed": by_seed}
        )
    return records


def _token_gains(baseline: Baseline, results: Sequence[RunResult]) -> Callable[[RunResult, str], np.ndarray | None]:
    """(run, name of a gain) -> its value at each held-out token, float64 [N], or None."""
    controls = {(r.run.method.ratio, r.run.seed): r for r in results if r.run.method.mask == "random"}

    def gains(result: RunResult, name: str) -> np.ndarray | None:
        control = controls.get((result.run.method.ratio, result.run.seed))
        if name == "vs_random" and (control is None or control is result):
            return None
        before, after = {
            "gain": lambda: (baseline.frozen.before.forward, result.held_out.forward),
            "reverse_gain": lambda: (baseline.frozen.before.reverse, result.held_out.reverse),
            "vs_random": lambda: (control.held_out.forward, result.held_out.forward),
        }[name]()
        return (before.double() - after.double()).numpy()

    return gains


def _measures(baseline: Baseline, runs: Sequence[RunResult], gains, seed: int) -> dict[str, Any]:
    """Of one run, or of the runs of one method that differ in their seeds."""
    measures: dict[str, Any] = {}
    for name in GAINS:
        values = [gains(run, name) for run in runs]
        parts = dict.fromkeys(("mean", "low", "high"))
        if all(value is not None for value in values):
            parts = vars(cluster_bootstrap(np.stack(values), baseline.frozen.prompt, seed))
        measures |= {f"{name}_{part}": value for part, value in parts.items()}
    return measures | {
        "heldout_loss": float(np.mean([run.solution_loss for run in runs])),
        "heldout_loss_before": baseline.student_loss,
        "heldout_loss_teacher": baseline.teacher_loss,
        "kept_tokens": sum(row["kept_tokens"] for run in runs for row in run.metrics),
        "valid_tokens": sum(row["valid_tokens"] for run in runs for row in run.metrics),
        "seconds": sum(run.seconds for run in runs),
    }
