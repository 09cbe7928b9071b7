"""slime's generate, as far as the drop-in reaches into it: it builds a payload and calls the global `post`."""

from slime.utils.types import Sample


async def post(url, payload, max_retries=60, headers=None):
    raise AssertionError("tests put their own server here")


async def generate(args, sample, sampling_params):
    payload = {"sampling_params": sampling_params, "return_logprob": True, "input_ids": list(sample.tokens)}
    if sampling_params["max_new_tokens"] - sample.response_length <= 0:
        sample.status = Sample.Status.TRUNCATED
        return sample
    output = await post("http://rollout/generate", payload, headers=None)
    new = output["meta_info"]["output_token_logprobs"]
    sample.tokens = sample.tokens + [item[1] for item in new]
    sample.rollout_log_probs = (sample.rollout_log_probs or []) + [item[0] for item in new]
    sample.response_length += len(new)
    reason = output["meta_info"]["finish_reason"]["type"]
    sample.status = {"abort": Sample.Status.ABORTED, "length": Sample.Status.TRUNCATED}.get(
        reason, Sample.Status.COMPLETED
    )
    return sample
