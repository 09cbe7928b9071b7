import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ta_opd import divergences as dv
from ta_opd import masked_mean

logprobs = st.floats(-8, -0.01)


def gradient(student, teacher, rollout=None):
    s = torch.tensor(student, requires_grad=True)
    loss = dv.sampled_token(s, torch.tensor(teacher), None if rollout is None else torch.tensor(rollout))
    loss.sum().backward()
    return loss.detach(), s.grad


@given(student=logprobs, teacher=logprobs)
def test_on_policy_the_gradient_is_the_policy_gradient_of_the_teachers_advantage(student, teacher):
    loss, grad = gradient([student], [teacher])
    assert grad.item() == pytest.approx(-(teacher - student), rel=1e-4, abs=1e-5)
    assert loss.item() == pytest.approx(student - teacher, rel=1e-4, abs=1e-5)


def test_the_gradient_depends_on_the_teacher():
    assert gradient([-1.0], [-0.2])[1].item() < 0 < gradient([-1.0], [-3.0])[1].item()


@given(rollout=logprobs, teacher=logprobs, moved=st.floats(-0.6, 0.6))
def test_off_policy_the_loss_is_the_clipped_surrogate(rollout, teacher, moved):
    loss, grad = gradient([rollout + moved], [teacher], [rollout])
    ratio, advantage = math.exp(moved), teacher - rollout
    clipped = min(max(ratio, 0.8), 1.28)
    assert loss.item() == pytest.approx(-min(ratio * advantage, clipped * advantage), rel=1e-4, abs=1e-5)
    inside = abs(ratio - clipped) < 1e-12
    stopped = not inside and clipped * advantage < ratio * advantage
    if min(abs(ratio - 0.8), abs(ratio - 1.28)) > 1e-4:
        expected = 0.0 if stopped else -ratio * advantage
        assert grad.item() == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("advantage", "moved", "stopped"),
    [(1.0, 0.4, True), (1.0, -0.4, False), (-1.0, 0.4, False), (-1.0, -0.4, True), (1.0, 0.1, False)],
)
def test_the_clip_stops_the_gradient_only_where_the_policy_has_gone_far_enough(advantage, moved, stopped):
    _, grad = gradient([-2.0 + moved], [-2.0 + advantage], [-2.0])
    assert (grad.item() == 0) == stopped


def test_its_expected_gradient_over_the_students_samples_is_that_of_the_reverse_kl():
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        z_s, z_t = (2 * torch.randn(6, generator=generator) for _ in range(2))
        expected, direct = z_s.clone().requires_grad_(), z_s.clone().requires_grad_()
        log_s, log_t = torch.log_softmax(expected, -1), torch.log_softmax(z_t, -1)
        (log_s.exp().detach() * dv.sampled_token(log_s, log_t)).sum().backward()
        dv.reverse_kl(direct, z_t).backward()
        torch.testing.assert_close(expected.grad, direct.grad, atol=2e-6, rtol=1e-4)


def test_no_gradient_reaches_the_teacher_or_the_rollout_policy():
    student, teacher, rollout = (torch.tensor([-1.0], requires_grad=True) for _ in range(3))
    dv.sampled_token(student, teacher, rollout).backward()
    assert teacher.grad is None and rollout.grad is None and student.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logprobs_are_upcast(dtype):
    s, t = torch.tensor([-1.3, -0.2]).to(dtype), torch.tensor([-0.7, -2.1]).to(dtype)
    assert torch.equal(dv.sampled_token(s, t), dv.sampled_token(s.float(), t.float()))


def test_a_token_the_teacher_rules_out_costs_a_finite_amount():
    loss, grad = gradient([-1.0], [-math.inf])
    assert loss.item() == pytest.approx(86.0) and grad.item() == pytest.approx(86.0)


@pytest.mark.parametrize("missing", ["teacher", "rollout"])
def test_a_token_without_a_teacher_costs_nan_and_leaves_the_gradient_of_the_others_alone(missing):
    student = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    values = {"teacher": torch.tensor([-0.5, -1.0, -2.0]), "rollout": torch.tensor([-1.1, -2.1, -0.4])}
    values[missing][1] = torch.nan
    losses = dv.sampled_token(student, values["teacher"], values["rollout"])
    assert losses.isnan().tolist() == [False, True, False]
    masked_mean(losses, ~losses.isnan()).backward()
    assert student.grad.isfinite().all() and student.grad[1] == 0 and student.grad[[0, 2]].ne(0).all()
