"""One line a run: runs (what there is) -> state, bank, gain (one file's numbers each) -> record -> output."""
