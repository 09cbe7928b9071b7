"""slime's get_batch, as far as it forwards keys, and its training step and checkpoints, as far as they are called."""


def get_batch(data_iterator, keys, pad_multiplier=128, allgather_cp=False):
    return {key: data_iterator.rollout_data.get(key) for key in keys}


def train_one_step(args, rollout_id, step_id, numbers, grad_norm=1.0):
    return dict(numbers), grad_norm


def save(iteration, model, optimizer, opt_param_scheduler):
    SAVED.append(iteration)


SAVED = []


def forward_only(f, args, model, data_iterator, num_microbatches, store_prefix="", use_rollout_top_p_replay=False):
    """Each micro-batch's logits to f, which gets what slime gives it; outputs by sample, under the prefix."""
    outputs = []
    for batch in data_iterator:
        named = {key: batch[key] for key in ("unconcat_tokens", "total_lengths", "response_lengths")}
        outputs.append(f(model[-1](batch["tokens"]), args=args, with_entropy=False, **named)[1])
    return {f"{store_prefix}{key}": [v for output in outputs for v in output[key]] for key in outputs[0]}
