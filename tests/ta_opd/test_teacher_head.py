import pytest
import torch
from ta_opd.row_losses import row_losses
from ta_opd.row_plan import Divergence, EntropyGate, RowPlan
from ta_opd.row_statistics import function
from ta_opd.teacher_head import TeacherHead
from ta_opd.vocab_parallel import VocabShard

N, V, HIDDEN = 7, 12, 5
PLANS = [
    RowPlan(Divergence("jsd", 0.3)),
    RowPlan(Divergence("reverse_kl"), EntropyGate("sigmoid", tau=1.5), 0.4),
    RowPlan(Divergence("forward_kl"), None, 0.4, "prob", 1.3),
]
KEEPS = [None, torch.tensor([1, 0, 0, 1, 1, 0, 1], dtype=torch.bool), torch.zeros(N, dtype=torch.bool)]


@pytest.fixture(params=["one_pass", "blocks"])
def path(request, monkeypatch):
    monkeypatch.setattr(function, "LEAST_COLUMNS", 1 if request.param == "one_pass" else 10**9)


def inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    student, hidden, weight = (
        torch.randn(*shape, generator=generator).to(dtype) for shape in ((N, V), (N, HIDDEN), (V, HIDDEN))
    )
    return student, hidden, weight, torch.randint(0, V, (N,), generator=generator)


def outcome(student, teacher, plan, keep, tokens, names, shard=None):
    leaf = student.clone().requires_grad_()
    result = row_losses(leaf, teacher, plan, keep=keep, token_ids=tokens, shard=shard)
    kept = slice(None) if keep is None else keep
    sum(getattr(result, name)[kept].sum() for name in names).backward()
    return [*result, leaf.grad]


@pytest.mark.parametrize("keep", KEEPS, ids=["all", "some", "none"])
@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("floor", [False, True])
def test_a_head_gives_what_its_logits_give(path, plan, keep, floor):
    student, hidden, weight, tokens = inputs()
    if floor:
        student[0, 2], student[3] = -torch.inf, 60 * student[3]
    for names in (("loss",), ("loss", "student_logprob", "student_entropy")):
        expected = outcome(student, hidden @ weight.T, plan, keep, tokens, names)
        for block in (1, 3, None):
            got = outcome(student, TeacherHead(hidden, weight, block), plan, keep, tokens, names)
            for a, b in zip(got, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_logits_are_rebuilt_a_block_at_a_time_of_the_kept_rows_alone(path, monkeypatch):
    student, hidden, weight, tokens = inputs()
    hidden[~KEEPS[1]] = torch.nan
    made = []
    logits = TeacherHead.logits

    def counted(head, rows):
        made.append(logits(head, rows))
        return made[-1]

    monkeypatch.setattr(TeacherHead, "logits", counted)
    values = outcome(student, TeacherHead(hidden, weight, 2), PLANS[1], KEEPS[1], tokens, ("loss",))
    assert all(len(block) <= 2 and block.isfinite().all() for block in made)
    assert not values[-1][~KEEPS[1]].any() and values[-1].isfinite().all()


def test_neither_hidden_states_nor_head_get_a_gradient(path):
    student, hidden, weight, _ = inputs()
    hidden.requires_grad_()
    weight.requires_grad_()
    leaf = student.clone().requires_grad_()
    row_losses(leaf, TeacherHead(hidden, weight), PLANS[0]).loss.sum().backward()
    assert hidden.grad is None and weight.grad is None and leaf.grad.any()


def test_padding_of_the_head_is_no_part_of_the_vocabulary(path):
    student, hidden, weight, tokens = inputs()
    expected = outcome(student, hidden @ weight.T, PLANS[0], None, tokens, ("loss",))
    wide = [torch.cat([x, torch.full((len(x), 2), torch.nan)], 1) for x in (student, weight.T)]
    head = TeacherHead(hidden, wide[1].T.contiguous(), 2)
    got = outcome(wide[0], head, PLANS[0], None, tokens, ("loss",), VocabShard(None, 0, V))
    torch.testing.assert_close(got[-1][:, :V], expected[-1], rtol=1e-5, atol=1e-6)
    assert not got[-1][:, V:].any()


def test_a_half_precision_head_makes_half_precision_logits(path):
    student, hidden, weight, tokens = inputs(torch.bfloat16)
    expected = outcome(student, hidden @ weight.T, PLANS[0], None, tokens, ("loss",))
    got = outcome(student, TeacherHead(hidden, weight, 3), PLANS[0], None, tokens, ("loss",))
    torch.testing.assert_close(got[0], expected[0], rtol=2e-2, atol=2e-3)
    assert got[-1].dtype == torch.bfloat16


def test_what_does_not_fit_is_refused():
    _, hidden, weight, _ = inputs()
    with pytest.raises(ValueError, match=r"\[N, H\] and a weight \[V', H\]; got \(7, 5\) and \(12, 4\)"):
        TeacherHead(hidden, weight[:, :4])
    with pytest.raises(ValueError, match=r"hidden states are torch\.bfloat16 but the head is torch\.float32"):
        TeacherHead(hidden.bfloat16(), weight)
    with pytest.raises(ValueError, match=r"teacher logits \(7, 12\) do not fit the student's \(7, 11\)"):
        row_losses(torch.zeros(7, 11), TeacherHead(hidden, weight), PLANS[0])
