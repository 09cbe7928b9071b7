"""Scenarios of a teacher client against fake servers: how to run one, and what a right signal is."""

import asyncio

import numpy as np
from ta_opd.slime_options import SlimeOptions
from ta_opd.teacher.client import ScoreRequest, TeacherClient

LENGTH = 6


def options(**changes):
    return SlimeOptions(**{"teacher_timeout": 20.0, "teacher_request_timeout": 10.0, **changes})


def sample(seed=0, prompt=4, vocabulary=48, **more):
    tokens = np.random.default_rng(seed).integers(0, vocabulary, prompt + LENGTH).tolist()
    return ScoreRequest(tokens, LENGTH, **{"top_k": 3, "label": f"sample {seed}", **more})


def with_teachers(scenario, *teachers, **changes):
    """Run scenario(client, *teachers) against started teachers; closes everything."""

    async def main():
        for teacher in teachers:
            await teacher.start()
        client = TeacherClient(options(**changes), [teacher.url for teacher in teachers])
        try:
            return await scenario(client, *teachers)
        finally:
            await client.close()
            for teacher in teachers:
                await teacher.stop()

    return asyncio.run(main())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.002)


def assert_right(signal, request, teacher):
    dense = teacher.logprobs(request.tokens, request.response_length)
    response = np.asarray(request.tokens[-request.response_length :])
    assert not signal.failure
    np.testing.assert_array_equal(signal.logprobs, dense[np.arange(len(response)), response])
    order = np.argsort(-dense, axis=1, kind="stable")[:, : request.top_k]
    np.testing.assert_array_equal(signal.topk.ids, order)
    np.testing.assert_array_equal(signal.topk.logprobs, np.take_along_axis(dense, order, 1))


def assert_absent(signal, reason, request):
    assert signal.failure == reason
    assert len(signal) == request.response_length and signal.topk.k == request.top_k
    assert np.isnan(signal.logprobs).all() and (signal.topk.ids == -1).all()
