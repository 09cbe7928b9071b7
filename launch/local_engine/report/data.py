"""What the report shows: frozen contexts with scores, both models' top tokens, each selector's choice and gain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ta_opd import TopK, select_tokens
from ta_opd.axes import build_axes
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..corpus import Corpus
from ..experiment import Baseline, RunResult, run_options
from ..frozen import Distances, FrozenContexts
from ..prompts import Problem
from ..settings import Settings
from .score_info import score_info

SHOWN_CONTEXTS = 12
SHOWN_TOP_TOKENS = 5


def report_data(
    settings: Settings,
    corpus: Corpus,
    baseline: Baseline,
    results: list[RunResult],
    records: list[dict[str, Any]],
    notice: str,
) -> dict[str, Any]:
    """The dictionary that build_report and save_plots take; its contexts come from the first seed's runs."""
    seed = settings.runs[0].seed
    shown = [result for result in results if result.run.seed == seed]
    prompts = np.unique(baseline.frozen.prompt)
    splits = (
        ("held-out", baseline.frozen, corpus.held_out, [result.held_out for result in shown]),
        ("rollout", baseline.first_rollout[seed], corpus.train, [result.rollout for result in shown]),
    )
    return {
        "title": f"On-policy distillation by selector: {settings.source}",
        "notice": notice,
        "settings": {"prompts.source": settings.source} | _scalars(settings.fingerprint()),
        "results": records,
        "contexts_n": len(baseline.frozen.responses.problem),
        "prompts_n": len(prompts),
        "history": [row for result in results for row in result.metrics],
        "contexts": [
            context
            for split, frozen, problems, after in splits
            for context in _contexts(split, frozen, problems, after, shown, settings, corpus)
        ],
        "score_info": score_info(settings.options),
    }


def _contexts(
    split: str,
    frozen: FrozenContexts,
    problems: Sequence[Problem],
    after: list[Distances],
    results: list[RunResult],
    settings: Settings,
    corpus: Corpus,
) -> list[dict[str, Any]]:
    responses, scored = frozen.responses, frozen.scored
    lengths = responses.lengths
    everything = torch.ones(int(lengths.sum()), dtype=torch.bool)
    axes = build_axes(
        scored.scores, everything, lengths, settings.options, ("h", "d", "c"), np.zeros(len(everything), np.uint64)
    )
    scores = {
        "entropy": scored.scores.entropy,
        "teacher_entropy": scored.supports.teacher_entropy,
        "disagreement": scored.scores.disagreement,
        "compatibility": scored.scores.compatibility,
        "teachability": axes.unit["d"] * axes.unit["c"],
        "incompatible": axes.unit["d"] * (1 - axes.unit["c"]),
        "H_norm": axes.unit["h"],
        "D_norm": axes.unit["d"],
        "C_norm": axes.unit["c"],
        "kl_before": frozen.before.forward,
    }
    kept = {
        result.run.method.label: select_tokens(
            scored.scores, everything, lengths, run_options(settings.options, result.run), rollout_id=0
        ).keep
        for result in results
    }
    gain = {
        result.run.method.label: frozen.before.forward - distances.forward
        for result, distances in zip(results, after, strict=True)
    }
    texts = _token_texts(corpus.tokenizer)
    ends = lengths.cumsum(0).tolist()
    contexts = []
    for index, end in enumerate(ends[:SHOWN_CONTEXTS]):
        rows = slice(end - int(lengths[index]), end)
        contexts.append(
            {
                "id": f"{split}-{index}",
                "split": split,
                "prompt": problems[responses.problem[index]].prompt,
                "tokens": [texts[token] for token in responses.response_ids[index]],
                "scores": {name: _floats(values[rows]) for name, values in scores.items()},
                "student_logp": _floats(scored.student_logprob[rows]),
                "teacher_logp": _floats(scored.teacher_logprob[rows]),
                "student_top": _top(scored.supports.student.rows(rows), texts),
                "teacher_top": _top(scored.supports.teacher.rows(rows), texts),
                "quadrant": [int(number) or None for number in axes.quadrant[rows]],
                "kept": {label: "".join(str(int(bit)) for bit in keep[rows]) for label, keep in kept.items()},
                "gain": {label: _floats(values[rows]) for label, values in gain.items()},
            }
        )
    return contexts


def _floats(values: Tensor | np.ndarray) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _top(topk: TopK, texts: list[str]) -> list[list[tuple[str, float]]]:
    ids, probabilities = topk.ids[:, :SHOWN_TOP_TOKENS].tolist(), topk.logprobs[:, :SHOWN_TOP_TOKENS].exp().tolist()
    return [
        [(texts[token], probability) for token, probability in zip(*row, strict=True)]
        for row in zip(ids, probabilities, strict=True)
    ]


def _token_texts(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    return [tokenizer.decode([token]) for token in range(len(tokenizer))]


def _scalars(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value if not isinstance(value, (list, tuple)) else ", ".join(map(str, value))}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _scalars(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat
