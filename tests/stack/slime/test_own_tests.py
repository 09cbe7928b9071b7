"""slime's own CPU tests end the same with the patch as without it, and the patch goes away without a trace.

SLIME_LONG=1 also runs the files that take a minute and more each.
"""

import os

from .own_tests import cpu_test_files, run_tests, summary


def test_slimes_own_tests_end_the_same_before_the_patch_with_it_and_after_its_removal(pristine, tmp_path, record):
    copy = pristine.copy(tmp_path)
    files = cpu_test_files(copy, long=os.environ.get("SLIME_LONG") == "1")
    shipped = copy.files()
    before, _ = run_tests(copy, files)
    assert any(outcome == "passed" for outcome in before.values())
    copy.install("apply")
    assert copy.files() != shipped
    with_patch, text = run_tests(copy, files)
    changed = {test: (before.get(test), with_patch.get(test)) for test in before.keys() | with_patch.keys()}
    assert not {test: pair for test, pair in changed.items() if pair[0] != pair[1]}, text[-5000:]
    copy.install("revert")
    assert copy.files() == shipped
    after, _ = run_tests(copy, files)
    assert after == before
    record("slime's own CPU tests", f"{len(files)} files: {summary(before)}; the same three times")
