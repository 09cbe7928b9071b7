"""Selected tokens reach slime's trainer: through its real conversion, split over ranks and context-parallel slicing."""

import json

from .probes import probe


def test_packed_rows_survive_conversion_splitting_and_context_parallel_slicing(with_hooks, record):
    seen = json.loads(probe(with_hooks, "conversion.py", "packed"))
    record("conversion + CP", "{kept} of {valid} kept, DP {dp}, CP {cp}".format(**seen), "packed rows")


def test_a_selection_in_the_loss_masks_reaches_every_rank(patched, record):
    seen = json.loads(probe(patched, "conversion.py", "mask"))
    record("conversion + CP", "{kept} of {valid} kept, DP {dp}".format(**seen), "loss masks")
