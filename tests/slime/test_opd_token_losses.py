"""The trainer's table of token losses: what is in it, what joins it with the token bank, when it is written."""

import importlib.util

import pyarrow.parquet as pq
import pytest
import torch
from slime.backends.megatron_utils import actor, opd_hooks, opd_loss, opd_rows, opd_token_losses, opd_wraps
from slime.backends.megatron_utils import model as slime_model
from slime.backends.megatron_utils.opd_rows import Layout, Places, TokenRows
from ta_opd.support import TopK

from .rollouts import arguments

NUMBERS = {name: torch.arange(4) + i / 10 for i, name in enumerate(opd_token_losses.NUMBERS[1:])}
PLACES = Places(torch.arange(4), [torch.tensor([1, 2]), torch.tensor([0, 1])])


@pytest.fixture
def rank(monkeypatch, megatron):
    """Sets this rank's number among the tensor-parallel ones."""

    def of_the_tensor_group(number):
        megatron.mpu.get_tensor_model_parallel_rank = lambda: number

    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 3)
    yield of_the_tensor_group
    opd_token_losses.finish()


def micro_batch(*numbers):
    tokens = [torch.arange(6) + 10, torch.arange(4) + 50]
    known = [TokenRows(torch.zeros(0), sample_index=number) for number in numbers]
    return {"unconcat_tokens": tokens, "response_lengths": [3, 2]}, known


def record(batch, known, kept=(True, False, True, True)):
    weight = torch.tensor([0.5, 2.0, 0.25, 1.0])
    opd_token_losses.record(batch, known, PLACES, torch.tensor(kept), weight, NUMBERS)


def test_a_row_is_a_distilled_token_under_the_token_banks_keys(rank, tmp_path):
    opd_token_losses.begin(str(tmp_path / "bank"), 12)
    opd_token_losses.begin_step(1)
    record(*micro_batch(7, 4))
    path = opd_token_losses.finish()
    assert path == tmp_path / "bank" / "losses_000012_rank003.parquet"
    rows = pq.read_table(path).to_pylist()
    keys = [(r["rollout_id"], r["step"], r["sample_index"], r["tok_pos"], r["token_id"]) for r in rows]
    assert keys == [(12, 1, 7, 1, 14), (12, 1, 4, 0, 52), (12, 1, 4, 1, 53)]
    assert [row["weight"] for row in rows] == [0.5, 0.25, 1.0]
    for name, values in NUMBERS.items():
        assert [row[name] for row in rows] == values[[0, 2, 3]].tolist()
    assert not list(path.parent.glob("rollout_*")), "readers of the token bank do not take it for a rollout"


def test_a_sample_without_a_number_has_none_in_the_table(rank, tmp_path):
    opd_token_losses.begin(str(tmp_path), 0)
    record(*micro_batch(None, 4))
    assert [row["sample_index"] for row in pq.read_table(opd_token_losses.finish()).to_pylist()] == [None, 4, 4]


def test_a_recomputed_loss_says_nothing_twice_and_another_micro_batch_does(rank, tmp_path):
    opd_token_losses.begin(str(tmp_path), 0)
    first, second = micro_batch(1, 2), micro_batch(3, 4)
    for part in (first, first, second):
        record(*part)
    assert pq.read_table(opd_token_losses.finish()).column("sample_index").to_pylist() == [1, 2, 2, 3, 4, 4]


def test_a_rank_without_a_distilled_token_writes_a_table_of_no_row(rank, tmp_path):
    opd_token_losses.begin(str(tmp_path), 5)
    record(*micro_batch(1, 2), kept=(False,) * 4)
    empty = pq.read_table(opd_token_losses.finish())
    opd_token_losses.begin(str(tmp_path), 6)
    never = pq.read_table(opd_token_losses.finish())
    opd_token_losses.begin(str(tmp_path), 7)
    record(*micro_batch(1, 2))
    assert empty.num_rows == never.num_rows == 0
    assert empty.schema == never.schema == pq.read_table(opd_token_losses.finish()).schema


def test_only_the_first_tensor_parallel_rank_writes_and_nobody_who_was_not_asked(rank, tmp_path):
    rank(1)
    opd_token_losses.begin(str(tmp_path), 0)
    record(*micro_batch(1, 2))
    assert opd_token_losses.finish() is None
    rank(0)
    opd_token_losses.begin("", 0)
    record(*micro_batch(1, 2))
    assert opd_token_losses.finish() is None and not list(tmp_path.iterdir())


def test_the_numbers_are_those_of_the_loss_function(rank, tmp_path, monkeypatch):
    monkeypatch.setattr(opd_rows.Layout, "of", staticmethod(lambda args: Layout()))
    monkeypatch.setattr(opd_loss, "vocab_shard", lambda args, columns: opd_rows.VocabShard(None, 0, columns))
    lists = TopK.from_logits(torch.randn(3, 7), 2)
    tokens = [torch.arange(5)]
    opd_rows.hold(tokens, [TokenRows(torch.tensor([1.0, 0.0, 0.5]), lists, sample_index=9)])
    batch = {"unconcat_tokens": tokens, "total_lengths": [5], "response_lengths": [3]}
    args = arguments(opd_loss="jsd", kl_coef=0.0, entropy_coef=0.0, use_kl_loss=False, vocab_size=7)
    opd_token_losses.begin(str(tmp_path), 0)
    loss, log = opd_loss.opd_loss_function(args, batch, torch.randn(1, 8, 7, requires_grad=True), torch.sum)
    rows = pq.read_table(opd_token_losses.finish()).to_pylist()
    assert [(row["tok_pos"], row["weight"]) for row in rows] == [(0, 1.0), (2, 0.5)]
    assert sum(row["weight"] * row["loss"] for row in rows) == pytest.approx(loss.item())
    for name in opd_loss.MEANS:
        assert sum(row[name] for row in rows) == pytest.approx(float(log[opd_loss.SUM + name])), name


def test_the_table_is_written_when_the_rollouts_training_ends_and_steps_are_numbered(rank, tmp_path, monkeypatch):
    def train_one_step(args, rollout_id, step_id):
        record(*micro_batch(step_id, step_id))
        return {}, 0.0

    def train(rollout_id, model, optimizer):
        for step in range(2):
            slime_model.train_one_step(None, rollout_id, step)

    monkeypatch.setattr(slime_model, "train_one_step", train_one_step)
    monkeypatch.setattr(actor, "train", train)
    opd_wraps.write_token_losses()
    opd_token_losses.begin(str(tmp_path), 4)
    actor.train(4, None, None)
    rows = pq.read_table(tmp_path / "losses_000004_rank003.parquet").to_pylist()
    assert [(row["step"], row["sample_index"]) for row in rows] == [(0, 0)] * 3 + [(1, 1)] * 3
    actor.train(5, None, None)
    assert len(list(tmp_path.iterdir())) == 1, "a critic trains on what the hooks never began"


def test_a_machine_without_pyarrow_is_told_at_the_start(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--opd-token-loss-dir losses writes Parquet, which needs pyarrow"):
        opd_hooks.initialize(arguments(opd_loss="jsd", opd_token_loss_dir="losses"))


def test_a_folder_that_cannot_be_written_is_told_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"--opd-token-loss-dir .*file/losses cannot be written"):
        opd_hooks.initialize(arguments(opd_loss="jsd", opd_token_loss_dir=str(tmp_path / "file" / "losses")))


def test_a_rollout_that_is_trained_on_again_by_fewer_ranks_leaves_no_files_of_the_others(tmp_path):
    for name in ("losses_000004_rank003.parquet", "losses_000004_rank001.parquet", "losses_000005_rank003.parquet"):
        (tmp_path / name).write_text("")
    opd_token_losses.clear(str(tmp_path), 4)
    assert [path.name for path in tmp_path.iterdir()] == ["losses_000005_rank003.parquet"]
    opd_token_losses.clear(str(tmp_path / "none"), 4)
