"""A suite from beginning to end with stand-ins for Ray, training and the teacher's server."""

import csv


def test_a_suite_trains_every_method_and_ends_with_one_table(suite):
    code, printed = suite.run()
    assert code == 0, printed
    for run in ("teachability-0.10-seed42", "random-0.10-seed42"):
        assert suite.rollouts(run) == [0, 1, 2, 3, 4, 5]
        assert suite.states(run)[-1] == ("done", "ok")
        assert (suite.directory / "runs" / run / "token_bank.parquet").exists()
        assert not (suite.directory / "runs" / run / "processes.tsv").exists()
    with (suite.directory / "summary.csv").open(newline="") as handle:
        assert [row["status"] for row in csv.DictReader(handle)] == ["finished", "finished"]
    assert (suite.directory / "method_mapping.csv").exists()


def test_a_finished_suite_does_nothing_when_it_is_called_again(suite):
    suite.run()
    before = len(suite.journal())
    code, printed = suite.run()
    assert code == 0 and "finished before" in printed
    assert len(suite.journal()) == before
