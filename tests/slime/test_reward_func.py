"""slime's reward hook: the task reward is returned, the teacher's answer stays on the sample."""

import asyncio
import pickle

import numpy as np
import pytest
import ta_opd.teacher.client
from slime.rollout.on_policy_distillation import (
    batched_reward_func,
    is_evaluation,
    reward_func,
    teacher_urls,
)
from slime.utils.opd_settings import slime_options
from slime.utils.types import Sample
from ta_opd.teacher.signal import TeacherSignal, TopKRows

from . import rollouts
from .rollouts import arguments

URL = "http://teacher:1/generate"


class Client:
    """Answers each request with a signal of the right size; remembers the requests and whom they were for."""

    def __init__(self):
        self.requests, self.urls, self.failure = [], [], ""

    async def score(self, request):
        self.requests.append(request)
        await asyncio.sleep(0)
        if self.failure:
            return TeacherSignal.absent(request.response_length, request.top_k, self.failure)
        logprobs = np.full(request.response_length, -float(request.tokens[-1]), np.float32)
        return TeacherSignal(logprobs, TopKRows.missing(request.response_length, request.top_k))


@pytest.fixture
def teacher(monkeypatch):
    client = Client()

    def client_for(options, urls):
        client.urls.append(list(urls))
        return client

    monkeypatch.setattr(ta_opd.teacher.client, "client_for", client_for)
    return client


def sample(index=0, n=3, **values):
    return rollouts.sample(index, n, index=index, reward=None, **values)


def reward(args, one):
    one.opd_teacher = None
    return asyncio.run(reward_func(args, one))


def test_a_sample_gets_a_scalar_and_keeps_the_teachers_arrays(teacher):
    one = sample()
    assert reward(arguments(), one) == 0.0
    (request,) = teacher.requests
    assert request.tokens == one.tokens and request.response_length == 3 and request.top_k == 4
    assert request.student_ids is None and request.url is None and list(request.image_data) == []
    assert one.opd_teacher.logprobs.tolist() == [-one.tokens[-1]] * 3 and teacher.urls == [[URL]]
    assert len(pickle.dumps(one)) < 4000


@pytest.mark.parametrize("function", [reward_func, batched_reward_func])
def test_a_list_gets_a_list_in_order_and_each_sample_its_own_answer(teacher, function):
    args = arguments(opd_task_reward="task_rewards.of_the_index")
    several = [sample(index, n) for index, n in ((3, 2), (1, 0), (2, 4))]
    assert asyncio.run(function(args, several)) == [3.0, 1.0, 2.0]
    assert [len(one.opd_teacher) for one in several] == [2, 0, 4]
    assert several[2].opd_teacher.logprobs[0] == -several[2].tokens[-1]
    assert asyncio.run(function(args, [])) == []


def test_a_lists_requests_are_in_flight_together(teacher):
    started = []

    async def score(request):
        started.append(request)
        while len(started) < 3:
            await asyncio.sleep(0)
        return TeacherSignal.absent(request.response_length, request.top_k, "timeout")

    teacher.score = score
    asyncio.run(asyncio.wait_for(reward_func(arguments(), [sample(i) for i in range(3)]), 20))


def test_a_teacher_that_fails_leaves_the_reward_and_says_why(teacher):
    teacher.failure = "http_503"
    one = sample(5)
    assert reward(arguments(opd_task_reward="task_rewards.length"), one) == 3
    assert one.opd_teacher.failure == "http_503" and np.isnan(one.opd_teacher.logprobs).all()


def test_the_task_rewards_own_error_is_raised(teacher):
    with pytest.raises(ZeroDivisionError, match="own mistake"):
        reward(arguments(opd_task_reward="task_rewards.failing"), sample())


def test_an_aborted_sample_is_not_asked_about(teacher):
    one = sample(status=Sample.Status.ABORTED)
    assert reward(arguments(), one) == 0.0
    assert one.opd_teacher.failure == "aborted" and len(one.opd_teacher) == 3 and not teacher.requests


@pytest.mark.parametrize("marks", [{"group_index": None}, {"opd_evaluation": True}])
def test_an_evaluation_sample_gets_slimes_reward_and_never_sees_the_teacher(teacher, marks):
    one = sample(**marks)
    assert is_evaluation(one)
    args = arguments(rm_type="length", opd_task_reward="task_rewards.failing")
    assert reward(args, one) == 3 and not teacher.requests and one.opd_teacher is None


def test_a_training_sample_that_generate_marked_is_none_of_evaluation(teacher):
    assert not is_evaluation(sample(group_index=None, opd_evaluation=False))
    assert not is_evaluation(sample(group_index=0))


def test_evaluation_without_a_judge_is_refused(teacher):
    with pytest.raises(ValueError, match="evaluation under OPD needs --rm-type"):
        reward(arguments(), sample(group_index=None))
    of_the_dataset = sample(group_index=None, metadata={"rm_type": "length"})
    assert reward(arguments(), of_the_dataset) == 3


@pytest.mark.parametrize("path", [None, rollouts.PATHS["custom_rm_path"]])
def test_slimes_reward_never_comes_back_to_this_hook(teacher, path):
    args = arguments(rm_type="length", opd_task_reward="rm")
    one = sample(custom_rm_path=path)
    assert reward(args, one) == 3
    assert args.custom_rm_path == rollouts.PATHS["custom_rm_path"] and one.custom_rm_path == path


def test_by_default_the_task_reward_of_training_is_zero_whatever_the_rm_type(teacher):
    assert reward(arguments(rm_type="length"), sample()) == 0.0


def test_task_reward_rm_without_a_type_is_refused(teacher):
    with pytest.raises(ValueError, match="--opd-task-reward rm needs --rm-type"):
        reward(arguments(opd_task_reward="rm", rm_type=" "), sample())


@pytest.mark.parametrize(
    ("task", "expected"), [("none", {"acc": 0.0}), ("task_rewards.length", {"acc": 3})], ids=["none", "a number"]
)
def test_with_a_reward_key_a_number_becomes_a_mapping(teacher, task, expected):
    assert reward(arguments(reward_key="acc", opd_task_reward=task), sample()) == expected


def test_a_mapping_is_returned_whole_where_it_has_the_key(teacher):
    args = arguments(reward_key="acc", opd_task_reward="task_rewards.mapping")
    assert reward(args, sample()) == {"acc": 0.25, "format": 1.0}


@pytest.mark.parametrize("key", [None, "score"])
def test_a_mapping_without_the_key_is_refused_with_the_keys_it_has(teacher, key):
    args = arguments(reward_key=key, opd_task_reward="task_rewards.mapping")
    with pytest.raises(ValueError, match="acc, format; name one with --reward-key"):
        reward(args, sample())


def test_evaluation_reads_its_own_reward_key_first(teacher):
    args = arguments(rm_type="mapping", eval_reward_key="accuracy", reward_key="score")
    assert reward(args, sample(group_index=None)) == {"accuracy": 1.0, "format": 0.5}
    number = arguments(rm_type="length", eval_reward_key="accuracy", reward_key="score")
    assert reward(number, sample(group_index=None)) == {"accuracy": 3}
    with pytest.raises(ValueError, match="name one with --eval-reward-key"):
        reward(arguments(rm_type="mapping", eval_reward_key="acc"), sample(group_index=None))


@pytest.mark.parametrize("off", [{"use_opd": False}, {"opd_type": "megatron"}, {"opd_type": None}])
def test_without_a_server_to_ask_the_reward_is_slimes_own(teacher, off):
    one = sample()
    assert reward(arguments(rm_type="length", **off), one) == 3
    assert not teacher.requests and one.opd_teacher is None


def test_exact_c_asks_at_the_students_own_list(teacher):
    one = sample()
    reward(arguments(opd_exact_cmass=True), one)
    assert np.array_equal(teacher.requests[0].student_ids, one.opd_student.ids)


def test_a_samples_own_teacher_and_its_images_go_with_the_request(teacher):
    one = sample(metadata={"opd_teacher_url": "http://b/generate"}, multimodal_inputs={"images": ["cat", "dog"]})
    reward(arguments(), one)
    assert teacher.requests[0].url == "http://b/generate"
    assert list(teacher.requests[0].image_data) == ["encoded:cat", "encoded:dog"]


@pytest.mark.parametrize("inputs", [None, {}, {"images": None}, {"images": []}])
def test_a_sample_without_images_sends_none(teacher, inputs):
    reward(arguments(), sample(multimodal_inputs=inputs, metadata=None))
    assert list(teacher.requests[0].image_data) == [] and teacher.requests[0].url is None


def test_teachers_are_named_by_our_flag_first_and_by_slimes_otherwise():
    args = arguments(opd_teacher_url=" http://a/generate, http://b/generate ,")
    assert teacher_urls(args, slime_options(args)) == ["http://a/generate", "http://b/generate"]
    assert teacher_urls(arguments(), slime_options(arguments())) == [URL]
    nobody = arguments(rm_url=None)
    assert teacher_urls(nobody, slime_options(nobody)) == []
