"""The hook that hands the output layer selected rows: where it is installed, what it refuses, that it goes again."""

from types import SimpleNamespace

import pytest
import torch
from slime.backends.megatron_utils import model, opd_hooks, opd_pack, opd_rows
from slime.backends.megatron_utils.opd_rows import Layout, TokenRows, hold
from ta_opd.support import TopK

from .rollouts import arguments


def make_head(megatron):
    """Megatron's by its class; the real one has tests/slime/spread_model.py."""

    class Head(torch.nn.Module, megatron.ColumnParallelLinear):
        sequence_parallel = False

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(7, 3))

        def forward(self, input_, weight=None):
            return input_ @ self.weight.T, None

    return Head()


def chunk(layer):
    found = torch.nn.Module()
    found.module = torch.nn.Module()
    found.module.output_layer = layer
    return found


def batch():
    """Two samples of 3 + 2 tokens in 12 rows; the first one's second token is distilled and the other's first."""
    tokens = [torch.arange(5), torch.arange(5) + 5]
    lists = TopK(torch.tensor([[1, 2]] * 2, dtype=torch.int32), torch.tensor([[0.5, 0.3]] * 2).log())
    hold(tokens, [TokenRows(torch.tensor([0.0, 1.0]), lists), TokenRows(torch.tensor([0.5, 0.0]), lists)])
    whole = torch.nn.functional.pad(torch.cat(tokens), (0, 2))[None]
    return {"tokens": whole, "unconcat_tokens": tokens, "total_lengths": [5, 5], "response_lengths": [2, 2]}


@pytest.fixture
def layer(monkeypatch, megatron):
    """The head of the one rank."""
    monkeypatch.setattr(opd_rows.Layout, "of", staticmethod(lambda args: Layout()))
    return make_head(megatron)


ARGS = SimpleNamespace(vocab_size=7)


def test_the_head_gets_the_rows_that_predict_distilled_tokens_by_position_or_by_name(layer):
    hidden = torch.randn(12, 1, 3)
    for positional, named in (((hidden,), {}), ((), {"input_": hidden, "weight": None})):
        given = batch()
        with opd_pack.packed_head(ARGS, [chunk(layer)]):
            opd_pack.announce(given)
            logits, _ = layer(*positional, **named)
        assert given[opd_pack.KEY].rows.tolist() == [3, 7] and given[opd_pack.KEY].count == 12
        assert torch.equal(logits, hidden[[3, 7]] @ layer.weight.T)


def test_other_forwards_see_every_row_and_their_batches_say_nothing(layer):
    hidden = torch.randn(12, 1, 3)
    with opd_pack.packed_head(ARGS, [chunk(layer)]):
        pass
    given = batch()
    opd_pack.announce(given)
    assert opd_pack.KEY not in given and len(layer(hidden)[0]) == 12
    with pytest.raises(ZeroDivisionError), opd_pack.packed_head(ARGS, [chunk(layer)]):
        raise ZeroDivisionError
    assert not layer._forward_pre_hooks and len(layer(hidden)[0]) == 12


def test_a_forward_that_only_scores_within_a_training_step_sees_every_row(layer):
    """slime's --custom-megatron-before-train-step-hook-path may call its forward_only, which evaluates."""
    hidden, given = torch.randn(12, 1, 3), batch()
    with opd_pack.packed_head(ARGS, [chunk(layer)]):
        layer.eval()
        opd_pack.announce(given)
        assert opd_pack.KEY not in given and len(layer(hidden)[0]) == 12
        layer.train()
        opd_pack.announce(given)
        assert len(layer(hidden)[0]) == 2


def test_a_stage_without_a_head_has_nothing_to_pack(layer):
    given = batch()
    with opd_pack.packed_head(ARGS, [torch.nn.Linear(2, 2)]):
        opd_pack.announce(given)
    assert opd_pack.KEY not in given


def test_a_second_pass_through_the_head_is_an_invariant(layer):
    hidden = torch.randn(12, 1, 3)
    with opd_pack.packed_head(ARGS, [chunk(layer)]):
        opd_pack.announce(batch())
        layer(hidden)
        with pytest.raises(AssertionError, match="once for each micro-batch"):
            layer(hidden)


def test_a_head_of_another_class_is_refused(megatron):
    message = r"--opd-pack-head: the model's output layer is Linear; it must be Megatron's ColumnParallelLinear"
    with pytest.raises(ValueError, match=message), opd_pack.packed_head(ARGS, [chunk(torch.nn.Linear(3, 7))]):
        pass


WITHOUT_POLICY_LOSS = {
    **{"opd_loss": "jsd", "opd_pack_head": True},
    **{"kl_coef": 0.0, "entropy_coef": 0.0, "use_kl_loss": False},
}


def test_a_trainer_with_a_policy_loss_refuses_to_start_although_nobody_checked_its_settings():
    with pytest.raises(ValueError, match="--opd-pack-head with slime's policy loss"):
        opd_hooks.initialize(arguments(**WITHOUT_POLICY_LOSS | {"entropy_coef": 0.1}))


def test_the_start_wraps_the_training_step_only_where_it_is_asked_for(monkeypatch):
    def names(function):
        found = []
        while hasattr(function, "__wrapped__"):
            found.append(function.__code__.co_name)
            function = function.__wrapped__
        return found

    for name in ("get_batch", "train_one_step"):
        function = getattr(model, name)
        monkeypatch.setattr(model, name, getattr(function, "ta_opd_original", function))
    opd_hooks.initialize(arguments(opd_loss="jsd"))
    assert names(model.get_batch) == ["with_reverse_kl"] and names(model.train_one_step) == ["with_means"]
    for _ in range(2):
        opd_hooks.initialize(arguments(**WITHOUT_POLICY_LOSS))
        assert names(model.get_batch) == ["with_packing", "with_reverse_kl"]
        assert names(model.train_one_step) == ["with_packed_head", "with_means"]
