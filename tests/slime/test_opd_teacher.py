"""A teacher inside the trainer: its lists, entropy and hidden states, from the forward that gives its log-probs."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slime.backends.megatron_utils import actor, opd_teacher, opd_wraps
from slime.backends.megatron_utils.opd_rows import Layout
from ta_opd.divergences import entropy
from ta_opd.support import TopK
from ta_opd.vocab_parallel import VocabShard

VOCABULARY, HIDDEN = 11, 5


@given(n=st.integers(0, 5), k=st.integers(1, 14), padding=st.integers(0, 4), seed=st.integers(0, 99))
def test_the_lists_are_those_of_the_whole_softmax_over_real_tokens(n, k, padding, seed):
    logits = 3 * torch.randn(n, VOCABULARY + padding, generator=torch.Generator().manual_seed(seed))
    lists, exact_entropy = opd_teacher.top_k(logits, k, VocabShard(None, 0, VOCABULARY))
    assert lists.ids.shape == (n, k)
    exact = logits[:, :VOCABULARY].double().log_softmax(-1)
    found = min(k, VOCABULARY)
    expected = TopK.from_logprobs(exact, found)
    assert torch.equal(lists.ids[:, :found], expected.ids)
    assert torch.allclose(lists.logprobs[:, :found], expected.logprobs, atol=1e-5)
    assert (lists.ids[:, found:] == -1).all() and (lists.logprobs[:, found:] == -torch.inf).all()
    assert torch.allclose(exact_entropy.double(), -(exact.exp() * exact).sum(-1), atol=1e-5)


def test_an_impossible_token_is_last_and_adds_nothing_to_the_entropy():
    logits = torch.tensor([[0.0, -torch.inf, 0.0, -torch.inf]])
    lists, exact_entropy = opd_teacher.top_k(logits, 2, VocabShard(None, 0, 4))
    assert sorted(lists.ids[0].tolist()) == [0, 2]
    assert exact_entropy.item() == pytest.approx(torch.tensor(2.0).log().item())


class Head(torch.nn.Module):
    """An output layer as Megatron's: [T, 1, H] to [T, 1, V], and a second thing that it returns."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(weight)

    def forward(self, input_, weight=None):
        return input_ @ (self.weight if weight is None else weight).T, None


class Model(torch.nn.Module):
    """tied: the head's weight comes with the call, as with shared embeddings. scale: of the logits afterwards."""

    def __init__(self, seed, tied=False, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embedding = torch.randn(50, HIDDEN, generator=generator)
        self.head = torch.randn(VOCABULARY, HIDDEN, generator=generator)
        self.output_layer = Head(self.head.clone() if not tied else torch.zeros(VOCABULARY, HIDDEN))
        self.tied, self.scale = tied, scale

    def forward(self, tokens):
        hidden = self.embedding[tokens][:, None]
        return self.scale * self.output_layer(hidden, weight=self.head if self.tied else None)[0].transpose(0, 1)


class Wrapped(torch.nn.Module):
    """As data parallelism and mixed precision wrap a model."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, tokens):
        return self.module(tokens)


LENGTHS = [(3, 4), (5, 1), (2, 6)]
MICRO_BATCHES = [[0, 1], [2]]
ARGS = SimpleNamespace(vocab_size=VOCABULARY)


def batches():
    """Micro-batches and the tokens of each sample."""
    tokens = [torch.arange(p + r) + 10 * i for i, (p, r) in enumerate(LENGTHS)]
    made = []
    for mine in MICRO_BATCHES:
        made.append(
            {
                "tokens": torch.cat([tokens[i] for i in mine]),
                "unconcat_tokens": [tokens[i] for i in mine],
                "total_lengths": [sum(LENGTHS[i]) for i in mine],
                "response_lengths": [LENGTHS[i][1] for i in mine],
            }
        )
    return made, tokens


def log_probs(logits, *, args, response_lengths, **named):
    return torch.empty(0), {"log_probs": [torch.zeros(r) for r in response_lengths]}


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setattr(Layout, "of", staticmethod(lambda args: Layout()))
    monkeypatch.setattr(opd_teacher, "vocab_shard", lambda args, columns: VocabShard(None, 0, VOCABULARY))
    function = actor.forward_only
    monkeypatch.setattr(actor, "forward_only", getattr(function, "ta_opd_original", function))
    yield
    opd_teacher.take({})


def forward(model, k, prefix="teacher_"):
    made, tokens = batches()
    opd_wraps.take_teacher_distributions(k)
    with torch.no_grad():
        data = actor.forward_only(log_probs, ARGS, [Wrapped(Wrapped(model))], made, [2], store_prefix=prefix)
    return data, tokens


def response_logits(model, tokens):
    return [model.embedding[t][p - 1 : -1] @ model.head.T for t, (p, _) in zip(tokens, LENGTHS, strict=True)]


def test_lists_come_with_the_teachers_log_probs_and_leave_no_key_for_slimes_logs():
    model = Model(1)
    data, tokens = forward(model, 3)
    assert [len(part) for part in data["teacher_log_probs"]] == [4, 1, 6]
    found = opd_teacher.take(data)
    assert list(data) == ["teacher_log_probs"]
    for fields, logits in zip(found, response_logits(model, tokens), strict=True):
        assert set(fields) == {"topk", "entropy"}
        expected = TopK.from_logits(logits, 3)
        assert torch.equal(fields["topk"].ids, expected.ids)
        assert torch.allclose(fields["topk"].logprobs, expected.logprobs, atol=1e-5)
        assert torch.allclose(fields["entropy"], entropy(logits), atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_hidden_states_and_head_rebuild_the_teachers_logits(tied):
    model = Model(2, tied)
    data, tokens = forward(model, 0)
    found = opd_teacher.take(data)
    assert list(data) == ["teacher_log_probs"]
    for fields, logits in zip(found, response_logits(model, tokens), strict=True):
        assert set(fields) == {"hidden", "head"}
        assert fields["head"].data_ptr() != model.head.data_ptr(), "slime puts the student's weights back there"
        assert torch.allclose(fields["hidden"] @ fields["head"].T, logits, atol=1e-5)
    assert opd_teacher.take({}) is None


@pytest.mark.parametrize("k", [0, 3])
def test_other_forwards_give_what_they_gave(k):
    data, _ = forward(Model(3), k, prefix="ref_")
    assert list(data) == ["ref_log_probs"]


def test_logits_that_are_not_the_heads_are_refused():
    with pytest.raises(ValueError, match=r"cannot be rebuilt; use the teacher's top-k: --opd-loss-top-k"):
        forward(Model(4, scale=0.5), 0)


def test_the_hook_on_the_output_layer_is_gone_after_the_forward():
    model = Model(5)
    forward(model, 0)
    assert not model.output_layer._forward_pre_hooks
