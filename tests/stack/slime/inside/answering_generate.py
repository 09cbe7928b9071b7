"""A pytest plugin: slime's generate answers without a server, for the contract of a function that calls it."""

import pytest


@pytest.fixture(autouse=True)
def answering_generate(monkeypatch):
    from slime.rollout import sglang_rollout
    from slime.utils.types import Sample

    async def generate(args, sample, sampling_params):
        sample.tokens, sample.response, sample.response_length = [31, 32], "two tokens", 2
        sample.reward, sample.status = 1.0, Sample.Status.COMPLETED
        return sample

    monkeypatch.setattr(sglang_rollout, "generate", generate)
