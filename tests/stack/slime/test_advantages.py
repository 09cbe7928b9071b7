"""The advantage hook against slime's own computation, for every estimator, whitened or not, over two real ranks."""

import json

from .probes import probe


def test_the_hook_is_slimes_own_computation_less_the_opd_term_of_selected_tokens(with_hooks, record):
    held = json.loads(probe(with_hooks, "advantages.py"))
    record("advantage hook", "{data_parallel} cases over DP 2, {context_parallel} over CP 2".format(**held))
