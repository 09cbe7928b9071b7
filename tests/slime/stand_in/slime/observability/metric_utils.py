"""slime's step of a rollout, here unlike its number so that a test can tell them apart."""


def compute_rollout_step(args, rollout_id):
    return 10 * rollout_id
