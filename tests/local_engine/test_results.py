import numpy as np
import pytest
import torch
from local_engine.experiment import Baseline, RunResult
from local_engine.frozen import Distances, FrozenContexts
from local_engine.results import result_records, summary_records
from local_engine.rollout import sample
from local_engine.suite import all_runs, parse_methods
from local_engine.table import markdown_table


@pytest.fixture
def baseline(corpus, student, teacher, tiny):
    config = student.config
    ends = (config.eos_token_id, config.pad_token_id)
    responses = sample(student, range(8), corpus.held_out_prompts, tiny.max_new_tokens, 0, *ends)
    frozen = FrozenContexts.build(
        responses, student, teacher, k=8, variant="paper", micro_batch=4, clusters=list(range(8))
    )
    return Baseline(frozen, {}, teacher_loss=1.0, student_loss=2.0)


@pytest.fixture
def results(baseline):
    """Runs whose gain at every token is known: 0.1 for the first method, 0.2 for the next, ..., plus the seed."""
    runs = all_runs(parse_methods("pure_opd tip:0.25 random:0.25"), [0, 1])
    before = baseline.frozen.before
    step = {"kept_tokens": 3, "valid_tokens": 12}

    def result(run, gain):
        after = Distances(before.forward - gain, before.reverse + gain)
        return RunResult(run, [step, step], after, after, solution_loss=1.5 + run.seed, seconds=2.0)

    gains = {"pure_opd": 0.1, "tip": 0.2, "random": 0.3}
    return [result(run, gains[run.method.name] + run.seed) for run in runs]


def test_each_run_has_its_gain_in_both_directions_and_against_random_of_its_seed(baseline, results):
    records = {(record["method"], record["seed"]): record for record in result_records(baseline, results, seed=0)}
    assert len(records) == 6
    assert records["tip", 1]["gain_mean"] == pytest.approx(1.2, abs=1e-5)
    assert records["tip", 1]["reverse_gain_mean"] == pytest.approx(-1.2, abs=1e-5)
    assert records["tip", 1]["vs_random_mean"] == pytest.approx(-0.1, abs=1e-5)
    assert records["tip", 1]["vs_random_low"] == pytest.approx(-0.1, abs=1e-5)
    assert records["pure_opd", 0]["vs_random_mean"] is records["random", 0]["vs_random_mean"] is None
    assert (records["tip", 0]["kept_tokens"], records["tip", 0]["valid_tokens"]) == (6, 24)


def test_a_summary_averages_over_seeds_and_keeps_each_seeds_mean(baseline, results):
    summary = summary_records(baseline, results, seed=0)
    assert [record["method"] for record in summary] == ["pure_opd", "tip", "random"]
    tip = summary[1]
    assert tip["seeds"] == [0, 1]
    assert tip["gain_by_seed"] == pytest.approx([0.2, 1.2], abs=1e-5)
    assert tip["gain_mean"] == pytest.approx(0.7, abs=1e-5)
    assert tip["vs_random_mean"] == pytest.approx(-0.1, abs=1e-5)
    assert tip["heldout_loss"] == pytest.approx(2.0)
    assert tip["seconds"] == 4.0


def test_a_gain_that_differs_between_prompts_has_an_interval_around_its_mean(baseline, results):
    prompt = baseline.frozen.prompt
    wide = torch.tensor(np.where(prompt % 2 == 0, 1.0, -1.0))
    result = results[0]
    uneven = RunResult(
        result.run,
        result.metrics,
        Distances(baseline.frozen.before.forward - wide, result.held_out.reverse),
        result.rollout,
        1.0,
        1.0,
    )
    record = result_records(baseline, [uneven], seed=0)[0]
    assert -1 < record["gain_low"] < record["gain_mean"] < record["gain_high"] < 1


def test_the_markdown_table_has_a_row_a_method_and_shows_missing_comparisons_as_empty(baseline, results):
    table = markdown_table(summary_records(baseline, results, seed=0), baseline)
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("|")}
    assert "+0.700 [+0.200, +1.200] | +0.200 +1.200" in rows["tip:0.25"]
    assert rows["random:0.25"].split("|")[6].strip() == ""
    assert len({line.count("|") for line in rows.values()}) == 1
