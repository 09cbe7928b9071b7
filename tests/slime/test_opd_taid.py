"""TAID's t in the trainer: one a step, moved by the mean over all distilled tokens, resumed to the same numbers."""

import json
import logging

import pytest
from slime.backends.megatron_utils import actor, model, opd_loss, opd_taid, opd_wraps
from ta_opd.schedules import TAIDSchedule

from .rollouts import arguments


def train_one_step(args, rollout_id, step_id, numbers, grad_norm=1.0):
    return dict(numbers), grad_norm


@pytest.fixture(autouse=True)
def trainer(monkeypatch):
    """slime's functions wrapped anew, and no state of another test; every rank logs for all."""
    monkeypatch.setattr(model, "train_one_step", train_one_step)
    monkeypatch.setattr(actor, "save", getattr(actor.save, "ta_opd_original", actor.save))
    monkeypatch.setattr(opd_wraps, "logs_for_all", lambda: True)
    monkeypatch.setattr(opd_taid, "same_on_all_shards", lambda cross_entropy: cross_entropy)
    opd_taid.forget()
    yield
    opd_taid.forget()


def run(folder=None, load=None, steps=10, **values):
    opd_wraps.report_dense_losses()
    opd_wraps.save_taid_with_checkpoints()
    opd_taid.forget()
    settings = {"opd_loss": "taid", "opd_taid_alpha": 0.05, "opd_taid_beta": 0.5, **values}
    return arguments(train_iters=steps, save=folder, load=load, **settings)


def numbers(loss, count=4):
    sums = dict.fromkeys((opd_loss.SUM + name for name in opd_loss.MEANS), count * 0.5)
    return {"loss": 1.0, **sums, opd_loss.SUM + "cross_entropy": count * loss, opd_loss.COUNT: float(count)}


def train(args, rollout_id, losses):
    """The numbers that slime gets of the steps of a rollout."""
    found = [model.train_one_step(args, rollout_id, i, numbers(*loss))[0] for i, loss in enumerate(losses)]
    actor.save(rollout_id, None, None, None)
    return found


LOSSES = [(2.0,), (1.6,), (1.7,), (1.2,), (1.0,), (0.9,)]


def test_each_step_trains_at_the_schedules_t_and_logs_it():
    args, schedule = run(), TAIDSchedule(10, alpha=0.05, beta=0.5)
    found = train(args, 0, LOSSES)
    for step, (numbers, (loss,)) in enumerate(zip(found, LOSSES, strict=True)):
        assert numbers["opd/taid_t"] == schedule.t
        assert numbers["opd/cross_entropy"] == pytest.approx(loss) and numbers["opd/gate"] == 0.5
        assert not any(name.startswith("ta_opd/") for name in numbers)
        schedule.update(numbers["opd/cross_entropy"], step)


def test_a_resumed_run_has_the_numbers_of_one_that_never_stopped(tmp_path):
    whole = train(run(), 0, LOSSES)
    first = train(run(str(tmp_path)), 0, LOSSES[:1])
    second = train(run(str(tmp_path), str(tmp_path)), 1, LOSSES[1:4])
    last = train(run(str(tmp_path), str(tmp_path)), 2, LOSSES[4:])
    assert [n["opd/taid_t"] for n in first + second + last] == [n["opd/taid_t"] for n in whole]


def test_a_step_without_distilled_tokens_leaves_t_and_logs_no_means():
    args = run()
    train(args, 0, LOSSES[:2])
    before = opd_taid.current_t()
    empty = train(args, 1, [(1.0, 0)])[0]
    assert opd_taid.current_t() == before == empty["opd/taid_t"]
    assert set(empty) == {"loss", "opd/taid_t"}


def test_a_longer_run_keeps_t_and_takes_the_new_line(tmp_path):
    train(run(str(tmp_path), steps=10), 0, LOSSES[:3])
    before = opd_taid.current_t()
    args = run(str(tmp_path), str(tmp_path), steps=1000)
    assert train(args, 1, LOSSES[3:4])[0]["opd/taid_t"] == before


def test_another_schedule_than_the_checkpoints_is_refused(tmp_path):
    train(run(str(tmp_path)), 0, LOSSES[:1])
    with pytest.raises(ValueError, match=r"a TAID state with alpha 0\.05 does not fit 0\.1"):
        train(run(None, str(tmp_path), opd_taid_alpha=0.1), 1, LOSSES[1:2])


@pytest.mark.parametrize("rank", [0, 1])
def test_every_rank_resumes_from_what_the_first_one_finds(rank, tmp_path, monkeypatch):
    """Rank 1's file system has no state: it takes what was broadcast, and rank 0 broadcasts what it read."""
    train(run(str(tmp_path)), 0, LOSSES[:3])
    expected, sent = opd_taid.current_t(), []

    def broadcast(found, src):
        assert src == 0
        if rank == 0:
            sent.extend(found)
        else:
            assert found == [None]
            found[0] = json.loads((tmp_path / "opd_taid" / "iter_0000000.json").read_text())

    monkeypatch.setattr(opd_taid.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(opd_taid.distributed, "get_rank", lambda: rank)
    monkeypatch.setattr(opd_taid.distributed, "broadcast_object_list", broadcast)
    folder = tmp_path if rank == 0 else tmp_path / "another node"
    if rank == 1:
        monkeypatch.setattr(opd_taid.Path, "is_file", lambda path: pytest.fail("rank 1 looked for a file"))
    assert train(run(None, str(folder)), 1, LOSSES[3:4])[0]["opd/taid_t"] == expected
    assert rank == 1 or sent[0] is not None


def test_a_checkpoint_without_a_state_starts_anew_and_says_so(tmp_path, caplog):
    args = run(None, str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert train(args, 7, LOSSES[:1])[0]["opd/taid_t"] == 0.4
    assert "no TAID state at" in caplog.text and "iter_0000006.json" in caplog.text


def test_t_outside_a_run_is_an_error():
    with pytest.raises(RuntimeError, match="outside a training step"):
        opd_taid.current_t()


def test_another_loss_has_no_state_and_a_run_that_saves_nothing_writes_nothing(tmp_path):
    args = run(str(tmp_path), opd_loss="jsd", opd_taid_alpha=5e-4, opd_taid_beta=0.99)
    assert "opd/taid_t" not in train(args, 0, LOSSES[:1])[0]
    assert list(tmp_path.iterdir()) == [] and model.SAVED[-1] == 0
    train(run(), 0, LOSSES[:1])
    assert list(tmp_path.iterdir()) == []


def test_other_losses_numbers_and_stages_without_a_loss_pass_through():
    args = run(opd_loss="forward_kl", opd_taid_alpha=5e-4, opd_taid_beta=0.99)
    assert model.train_one_step(args, 0, 0, {"value_loss": 2.0}) == ({"value_loss": 2.0}, 1.0)
    assert model.train_one_step(args, 0, 0, {}, grad_norm=3.0) == ({}, 3.0)


def test_only_the_rank_that_logs_writes_the_state(tmp_path, monkeypatch):
    monkeypatch.setattr(opd_wraps, "logs_for_all", lambda: False)
    train(run(str(tmp_path)), 0, LOSSES[:1])
    assert list(tmp_path.iterdir()) == []
