"""slime's slicing of response rows for a context-parallel rank: one rank here, which holds them all."""


def slice_log_prob_with_cp(log_prob, total_length, response_length):
    assert len(log_prob) == response_length
    return log_prob
