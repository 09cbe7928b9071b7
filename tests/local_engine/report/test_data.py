"""From real objects of the engine to the data that the page and the figures take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from local_engine.experiment import Baseline, RunResult
from local_engine.frozen import FrozenContexts
from local_engine.models import build_model
from local_engine.report import build_report, report_data, save_plots
from local_engine.report.packing import check_data
from local_engine.results import result_records
from local_engine.rollout import sample
from local_engine.settings import Settings
from local_engine.suite import all_runs, parse_methods
from ta_opd import Options

SEEDS = (3, 5)


@pytest.fixture(scope="module")
def finished(corpus, teacher, tiny):
    """Settings, baseline and results of three methods with two seeds, whose trained student is the teacher."""
    student = build_model(tiny.student, corpus.tokenizer, seed=1)
    runs = all_runs(parse_methods("pure_opd teachability:0.25 random:0.25"), SEEDS)
    settings = Settings(runs, Options(topk_metrics_k=8), tiny, {"problems": 8}, "cpu", 1, source="made up")

    def frozen(prompts: list[list[int]], seed: int) -> FrozenContexts:
        end, pad = student.config.eos_token_id, student.config.pad_token_id
        responses = sample(student, range(8), prompts, tiny.max_new_tokens, seed, end, pad)
        return FrozenContexts.build(
            responses, student, teacher, k=8, variant="paper", micro_batch=3, clusters=list(range(8))
        )

    held_out = frozen(corpus.held_out_prompts, seed=0)
    rollouts = {seed: frozen(corpus.train_prompts, seed=seed) for seed in SEEDS}
    baseline = Baseline(held_out, rollouts, teacher_loss=1.0, student_loss=2.0)
    row = {"step": 0, "reverse_kl": 0.5, "kept_tokens": 4, "valid_tokens": 16}
    results = [
        RunResult(
            run, [run.identity | row], held_out.distances(teacher), rollouts[run.seed].distances(teacher), 1.5, 2.0
        )
        for run in runs
    ]
    return settings, baseline, results


@pytest.fixture(scope="module")
def made(finished, corpus) -> dict:
    """The report data of the finished runs."""
    settings, baseline, results = finished
    return report_data(settings, corpus, baseline, results, result_records(baseline, results, seed=0), "a notice")


def test_contexts_are_those_of_the_first_seed(made: dict, finished, corpus) -> None:
    check_data(made)
    _, baseline, _ = finished
    assert [context["split"] for context in made["contexts"]] == ["held-out"] * 8 + ["rollout"] * 8
    first = made["contexts"][8]
    ids = baseline.first_rollout[SEEDS[0]].responses.response_ids[0]
    assert first["tokens"] == [corpus.tokenizer.decode([token]) for token in ids]
    assert first["prompt"] == corpus.train[0].prompt
    assert (made["contexts_n"], made["prompts_n"]) == (8, 8)


def test_each_label_keeps_its_budget_and_has_its_gain(made: dict) -> None:
    labels = ["pure_opd:1.00", "teachability:0.25", "random:0.25"]
    held_out = [context for context in made["contexts"] if context["split"] == "held-out"]
    total = sum(len(context["tokens"]) for context in held_out)
    for label, ratio in zip(labels, (1, 0.25, 0.25), strict=True):
        kept = sum(context["kept"][label].count("1") for context in held_out)
        assert abs(kept - ratio * total) < 1
    for context in held_out:
        assert list(context["gain"]) == labels
        np.testing.assert_allclose(context["gain"]["random:0.25"], context["scores"]["kl_before"], atol=1e-5)
        for side in ("student_top", "teacher_top"):
            assert all(sorted(row, key=lambda entry: -entry[1]) == row for row in context[side])


def test_every_row_has_its_label_and_the_page_takes_them(made: dict, tmp_path: Path) -> None:
    for rows in (made["results"], made["history"]):
        assert [(row["label"], row["seed"]) for row in rows] == [
            (label, seed) for seed in SEEDS for label in ("pure_opd:1.00", "teachability:0.25", "random:0.25")
        ]
    assert made["title"] == "On-policy distillation by selector: made up"
    assert made["settings"]["prompts.source"] == "made up"
    assert all(not isinstance(value, (dict, list, tuple)) for value in made["settings"].values())
    build_report(made, tmp_path / "report.html")
    assert "teachability:0.25" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(save_plots(made, tmp_path / "plots")) == 6
