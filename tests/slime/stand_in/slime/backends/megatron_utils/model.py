"""slime's get_batch, as far as it forwards keys."""


def get_batch(data_iterator, keys, pad_multiplier=128, allgather_cp=False):
    return {key: data_iterator.rollout_data.get(key) for key in keys}
