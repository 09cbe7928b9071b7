import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ta_opd import TAIDSchedule

losses = st.lists(st.floats(0.01, 20), min_size=1, max_size=60)


class Transcription:
    """The update of TAID's released code, line by line from the formula sheet."""

    def __init__(self, total, t_start, t_end, alpha, beta):
        self.total, self.t_start, self.t_end, self.alpha, self.beta = total, t_start, t_end, alpha, beta
        self.t, self.prev, self.m = t_start, math.inf, 0.0

    def update(self, loss, step):
        if self.prev == math.inf:
            self.prev = loss
            return self.t
        r = (self.prev - loss) / (self.prev + 1e-15)
        self.m = self.beta * self.m + (1 - self.beta) * r
        sigmoid = 1 / (1 + math.exp(-self.m)) if self.m > -700 else 0.0
        dt = self.alpha * sigmoid * (1 - self.t)
        t_lin = self.t_start + (self.t_end - self.t_start) * step / self.total
        self.t = min(self.t_end, max(t_lin, self.t + dt))
        self.prev = loss
        return self.t


@given(
    losses=losses,
    total=st.integers(1, 80),
    start=st.sampled_from([0.0, 0.2, 0.4]),
    end=st.sampled_from([0.5, 0.9, 1.0]),
    alpha=st.sampled_from([5e-4, 0.05, 1.0]),
    beta=st.sampled_from([0.0, 0.9, 0.99]),
)
def test_t_follows_the_released_update(losses, total, start, end, alpha, beta):
    ours = TAIDSchedule(total, start, end, alpha, beta)
    theirs = Transcription(total, start, end, alpha, beta)
    before = ours.t
    for step, loss in enumerate(losses):
        t = ours.update(loss, step)
        assert t == pytest.approx(theirs.update(loss, step), rel=1e-12)
        assert before <= t <= end or math.isclose(before, t)
        before = t


def test_the_first_loss_leaves_t_where_it_starts():
    schedule = TAIDSchedule(10)
    assert schedule.t == 0.4 and schedule.update(3.0, 5) == 0.4
    assert schedule.previous_loss == 3.0 and schedule.momentum == 0.0


def test_without_adaptation_t_is_linear_and_reaches_its_end():
    schedule = TAIDSchedule(4, t_start=0.2, t_end=0.8, alpha=0.0)
    path = [schedule.update(1.0 + step % 2, step) for step in range(7)]
    assert path == pytest.approx([0.2, 0.35, 0.5, 0.65, 0.8, 0.8, 0.8])


def test_falling_losses_run_ahead_of_rising_ones():
    falling, rising = (TAIDSchedule(10**6, alpha=0.5, beta=0.5) for _ in range(2))
    for step in range(20):
        falling.update(20.0 - step, step)
        rising.update(1.0 + step, step)
    assert falling.t > rising.t > 0.4


@given(losses=losses, data=st.data())
def test_resuming_from_a_state_gives_the_identical_path(losses, data):
    cut = data.draw(st.integers(1, len(losses)))
    whole = TAIDSchedule(50, alpha=0.3)
    path = [whole.update(loss, step) for step, loss in enumerate(losses)]
    first = TAIDSchedule(50, alpha=0.3)
    for step, loss in enumerate(losses[:cut]):
        first.update(loss, step)
    resumed = TAIDSchedule(50, alpha=0.3)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [resumed.update(loss, step) for step, loss in enumerate(losses) if step >= cut] == path[cut:]
    assert resumed == whole


def test_a_state_of_a_fresh_schedule_resumes_as_fresh():
    fresh = TAIDSchedule(7)
    resumed = TAIDSchedule(7)
    resumed.load_state_dict(fresh.state_dict())
    assert resumed == fresh and resumed.update(2.0, 0) == 0.4


@pytest.mark.parametrize("setting", ["total_steps", "t_start", "t_end", "alpha", "beta"])
def test_a_state_of_other_settings_is_refused(setting):
    settings = {"total_steps": 10, "t_start": 0.4, "t_end": 1.0, "alpha": 5e-4, "beta": 0.99}
    other = settings | {setting: {"total_steps": 11, "t_start": 0.3, "t_end": 0.9, "alpha": 0.1, "beta": 0.5}[setting]}
    with pytest.raises(ValueError, match=f"a TAID state with {setting}"):
        TAIDSchedule(**settings).load_state_dict(TAIDSchedule(**other).state_dict())


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_refused_and_changes_nothing(loss):
    schedule = TAIDSchedule(10)
    schedule.update(2.0, 0)
    before = schedule.state_dict()
    with pytest.raises(ValueError, match="at step 1"):
        schedule.update(loss, 1)
    assert schedule.state_dict() == before


def test_a_loss_of_zero_does_not_stop_the_schedule():
    schedule = TAIDSchedule(100, alpha=0.5)
    for step, loss in enumerate([0.0, 1.0, 0.5, 0.0, 2.0]):
        assert 0.4 <= schedule.update(loss, step) <= 1.0


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("t-start", {"t_start": 1.0}),
        ("t-start", {"t_start": -0.1}),
        ("t-end", {"t_end": 0.0, "t_start": 0.0}),
        ("t-end", {"t_end": 1.1}),
        ("t-end", {"t_end": 0.3}),
        ("alpha", {"alpha": -0.1}),
        ("alpha", {"alpha": 1.1}),
        ("beta", {"beta": 1.0}),
        ("beta", {"beta": math.nan}),
    ],
)
def test_settings_outside_their_range_are_refused_by_flag(name, values):
    with pytest.raises(ValueError, match=f"--opd-taid-{name} .* is outside"):
        TAIDSchedule(10, **values)


def test_a_schedule_needs_a_step():
    with pytest.raises(ValueError, match="over 0 steps"):
        TAIDSchedule(0)
