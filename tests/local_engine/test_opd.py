import copy
import json
from dataclasses import replace

import polars as pl
import pytest
import torch
from local_engine.opd import OPDRun
from ta_opd import LOSSES, Options

OPTIONS = Options(topk_metrics_k=8, budget_mask="teachability", budget_ratio=0.25)


@pytest.fixture
def start(corpus, teacher, student, tiny, tmp_path):
    def make(options=OPTIONS, seed=0, directory="bank"):
        return OPDRun(copy.deepcopy(student), teacher, corpus.train_prompts, options, tiny, seed, tmp_path / directory)

    return make


def without_time(row):
    return {key: value for key, value in row.items() if key != "seconds"}


def weights(run):
    return torch.cat([parameter.detach().flatten() for parameter in run.student.parameters()])


def test_two_runs_with_one_seed_are_the_same_and_another_seed_differs(start):
    first, second, other = start(), start(), start(seed=1)
    rows = [[without_time(run.step(step)) for step in range(2)] for run in (first, second, other)]
    assert rows[0] == rows[1] != rows[2]
    assert torch.equal(weights(first), weights(second))


def test_a_resumed_run_ends_in_the_weights_of_one_that_never_stopped(start, tmp_path):
    for options in (OPTIONS, replace(OPTIONS, loss="taid")):
        whole = start(options)
        rows = [without_time(whole.step(step)) for step in range(3)]
        begun = start(options)
        begun.step(0)
        torch.save(begun.state_dict(), tmp_path / "state.pt")
        resumed = start(options)
        resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert [without_time(resumed.step(step)) for step in (1, 2)] == rows[1:]
        assert torch.equal(weights(whole), weights(resumed))
        assert whole.schedule.t == resumed.schedule.t


def test_every_method_sees_the_same_first_rollout(start):
    first = start().responses(0)
    assert start(replace(OPTIONS, budget_mask="random")).responses(0) == first
    assert start().responses(1) != first


def test_exactly_the_budget_is_kept_and_the_token_bank_says_which(start, tmp_path):
    run = start()
    row = run.step(0)
    assert row["kept_tokens"] == -(-row["valid_tokens"] // 4)
    bank = pl.read_parquet(tmp_path / "bank" / "rollout_000000.parquet")
    assert bank["budget_keep"].sum() == row["kept_tokens"]
    assert bank["token_id"].to_list() == run_tokens(start(), 0)
    assert json.loads((tmp_path / "bank" / "config.json").read_text())["rollouts"] == {
        "rollout_000000.parquet": row["valid_tokens"]
    }


def run_tokens(run, step):
    return run.responses(step).token_ids.tolist()


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_takes_a_step_that_changes_the_student_and_not_the_teacher(start, teacher, loss):
    before = copy.deepcopy(teacher.state_dict())
    run = start(replace(OPTIONS, loss=loss))
    initial = weights(run)
    row = run.step(0)
    assert row["grad_norm"] > 0
    assert torch.isfinite(weights(run)).all()
    assert not torch.equal(initial, weights(run))
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_tokens_outside_the_selection_give_no_gradient(start, student, teacher):
    """Distilling only kept tokens equals distilling all of them with the others' losses cut out by hand."""
    run = start(replace(OPTIONS, loss="reverse_kl"))
    responses = run.responses(0)
    run.step(0)
    manual = copy.deepcopy(student)
    log_s = torch.log_softmax(responses.logits(manual), -1)
    with torch.no_grad():
        log_t = torch.log_softmax(responses.logits(teacher), -1)
    bank = pl.read_parquet(run._token_bank / "rollout_000000.parquet")
    keep = torch.tensor(bank["budget_keep"].to_list(), dtype=torch.bool)
    per_token = (log_s.exp() * (log_s - log_t)).sum(-1)
    (per_token * keep).sum().div(keep.sum()).backward()
    for mine, theirs in zip(manual.parameters(), run.student.parameters(), strict=True):
        norm = torch.linalg.vector_norm(mine.grad)
        if norm > 0:
            cosine = (mine.grad * theirs.grad).sum() / norm / torch.linalg.vector_norm(theirs.grad)
            assert cosine == pytest.approx(1.0, abs=1e-4)


def test_steps_out_of_order_are_an_invariant_broken(start):
    with pytest.raises(AssertionError, match="step 1 after 0"):
        start().step(1)
