"""Rewards against slime's normalisation, written out in float64."""

import math
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slime.rollout.opd_rewards import normalise_rewards, reward_value, without_reward

eighths = st.integers(-40, 40).map(lambda x: x / 8)
SCALED = ("grpo", "gspo", "cispo")
CENTRED = (*SCALED, "reinforce_plus_plus_baseline")
ESTIMATORS = (*CENTRED, "reinforce_plus_plus", "ppo")


def args(**values):
    defaults = {
        "advantage_estimator": "grpo",
        "rewards_normalization": True,
        "grpo_std_normalization": True,
        "n_samples_per_prompt": 2,
        "reward_key": None,
    }
    return Namespace(**(defaults | values))


def samples(values, groups=None):
    groups = [0] * len(values) if groups is None else groups
    return [
        SimpleNamespace(reward=r, group_index=g, index=i) for i, (r, g) in enumerate(zip(values, groups, strict=True))
    ]


def slow(values, groups, settings):
    """Each group's values minus their mean, over their deviation (n - 1) + 1e-6; None stays out and becomes 0."""
    if settings.advantage_estimator not in CENTRED or not settings.rewards_normalization:
        return [0.0 if v is None else v for v in values]
    result = [0.0] * len(values)
    for group in set(groups):
        members = [i for i, g in enumerate(groups) if g == group and values[i] is not None]
        inside = [values[i] for i in members]
        mean = math.fsum(inside) / len(inside) if inside else 0.0
        scale, divides = 1.0, settings.advantage_estimator in SCALED
        if divides and settings.grpo_std_normalization and len(inside) > 1:
            scale = math.sqrt(math.fsum((v - mean) ** 2 for v in inside) / (len(inside) - 1)) + 1e-6
        for i in members:
            result[i] = (values[i] - mean) / scale
    return result


@st.composite
def groups_of_rewards(draw):
    """Rewards (some of them absent) in groups of any sizes and any order, exact in float32."""
    n = draw(st.integers(1, 12))
    groups = [draw(st.integers(0, 3)) for _ in range(n)]
    values = [draw(st.none() | eighths) for _ in range(n)]
    return values, groups


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("scaled", [True, False])
@given(given_groups=groups_of_rewards())
def test_rewards_are_normalised_within_their_group_wherever_its_members_stand(estimator, scaled, given_groups):
    values, groups = given_groups
    settings = args(advantage_estimator=estimator, grpo_std_normalization=scaled)
    raw = [0.0 if v is None else v for v in values]
    found = normalise_rewards(settings, samples(values, groups), raw)
    assert found == pytest.approx(slow(values, groups, settings), rel=1e-4, abs=1e-5)


@given(values=st.lists(st.lists(eighths, min_size=3, max_size=3), min_size=1, max_size=4))
def test_equal_groups_in_order_give_slimes_own_numbers_also_when_nobody_numbered_the_groups(values):
    flat, numbered = [r for group in values for r in group], [g for g in range(len(values)) for _ in range(3)]
    settings = args(n_samples_per_prompt=3)
    table = np.array(values)
    expected = (table - table.mean(1, keepdims=True)) / (table.std(1, ddof=1, keepdims=True) + 1e-6)
    for groups in (numbered, [None] * len(flat)):
        found = normalise_rewards(settings, samples(flat, groups), flat)
        assert found == pytest.approx(expected.ravel().tolist(), rel=1e-4, abs=1e-5)


def test_a_number_of_a_group_is_not_a_position():
    found = normalise_rewards(args(), samples([1.0, 3.0, 10.0, 20.0], [1, 1, None, None]), [1.0, 3.0, 10.0, 20.0])
    assert found == pytest.approx([-0.7071, 0.7071, -0.7071, 0.7071], abs=1e-3)


def test_a_group_of_one_is_centred_to_zero_and_never_nan():
    assert normalise_rewards(args(n_samples_per_prompt=1), samples([3.0, 4.0], [0, 1]), [3.0, 4.0]) == [0.0, 0.0]
    assert normalise_rewards(args(n_samples_per_prompt=0), samples([3.0], [None]), [3.0]) == [0.0]


def test_one_member_left_of_a_group_is_centred_alone():
    found = normalise_rewards(args(), samples([5.0, None], [0, 0]), [5.0, 0.0])
    assert found == [0.0, 0.0]


def test_an_equal_group_is_all_zero():
    assert normalise_rewards(args(), samples([2.0, 2.0], [0, 0]), [2.0, 2.0]) == [0.0, 0.0]


def test_arguments_without_the_settings_leave_rewards_alone():
    raw = [1.0, 2.0]
    found = normalise_rewards(Namespace(), samples(raw), raw)
    assert found == raw and found is not raw


def test_no_samples_have_no_rewards():
    assert normalise_rewards(args(), [], []) == []


def test_a_reward_is_a_number_or_what_reward_key_names_in_a_mapping():
    assert reward_value(args(), samples([2])[0]) == 2
    assert reward_value(args(), samples([True])[0]) == 1
    assert reward_value(args(reward_key="acc"), samples([{"acc": 0.5, "format": 1.0}])[0]) == 0.5
    assert reward_value(Namespace(), samples([1.5])[0]) == 1.5


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.int64(1), np.bool_(True)])
def test_a_number_of_numpys_is_a_number(number):
    assert reward_value(args(), samples([number])[0]) == number


def test_a_sample_without_a_reward_counts_as_zero_and_is_named():
    absent, present = samples([None, 0.0])
    assert reward_value(args(), absent) == 0.0 and reward_value(args(reward_key="acc"), absent) == 0.0
    assert without_reward([absent, present]) == [absent]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (None, {"meta_info": 1, "text": "x"}, "sample 0 has a reward of meta_info, text; --reward-key is None"),
        ("acc", {"format": 1.0}, "sample 0 has a reward of format; --reward-key is acc"),
        ("acc", {"acc": "good"}, "sample 0 has a reward of type str; a number is needed"),
        (None, [1.0], "sample 0 has a reward of type list; a number is needed"),
    ],
)
def test_a_reward_that_is_no_number_is_refused_by_sample(key, value, message):
    with pytest.raises(ValueError, match=message):
        reward_value(args(reward_key=key), samples([value])[0])
