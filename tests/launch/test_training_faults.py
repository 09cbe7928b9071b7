"""The training fails: in its first rollout, later, at Ray, at its table, without contact."""

import shutil

ONE = {"METHOD_LIST": "teachability:0.10:1"}
RUN = "teachability-0.10-seed42"


def test_a_crash_in_training_fails_the_run_and_the_next_call_goes_on_from_the_checkpoint(suite):
    suite.order("train_crashes", 1)
    suite.order("train_crashes_at", 3)
    code, printed = suite.run()
    assert code == 1
    assert "train failed: Ray's job" in printed and "loss is not finite, says the stand-in" in printed
    assert suite.states(RUN)[-1] == ("train", "fail")
    assert suite.rollouts("random-0.10-seed42") == [0, 1, 2, 3, 4, 5]
    code, printed = suite.run()
    assert code == 0, printed
    # Rollout 3 crashed; the last checkpoint was after rollout 1.
    assert suite.rollouts(RUN) == [0, 1, 2, 3, 2, 3, 4, 5]
    assert suite.rollouts("random-0.10-seed42") == [0, 1, 2, 3, 4, 5]


def test_a_ray_that_does_not_start_is_tried_again(suite):
    suite.order("ray_fails", 2)
    code, printed = suite.run(**ONE)
    assert code == 0, printed
    assert "(start 2 of 3)" in printed


def test_a_ray_that_never_starts_fails_the_run(suite):
    suite.order("ray_fails", 3)
    code, printed = suite.run(**ONE)
    assert code == 1
    assert "Ray: the head ended with exit code 1 while starting" in printed
    assert "Ray does not start, says the stand-in" in printed
    assert suite.states(RUN)[-1] == ("train", "fail")


def test_a_submission_that_loses_contact_is_settled_by_what_ray_says_of_the_job(suite):
    suite.order("submit_loses_contact", 1)
    suite.order("step_seconds", 0.1)
    code, printed = suite.run(**ONE)
    assert code == 0, printed
    assert suite.rollouts(RUN) == [0, 1, 2, 3, 4, 5]


def test_a_training_past_its_time_is_stopped(suite):
    suite.order("step_seconds", 30)
    code, printed = suite.run(TRAIN_TIMEOUT="2", **ONE)
    assert code == 1
    assert "not finished within TRAIN_TIMEOUT=2 seconds" in printed
    assert suite.states(RUN)[-1] == ("train", "fail")


def test_a_merge_that_fails_is_tried_again_without_training_again(suite):
    good, broken = suite.bank, suite.place / "broken bank"
    shutil.copytree(good, broken)
    for file in broken.glob("rollout_*.parquet"):
        file.write_bytes(b"")
    suite.order("bank", broken)
    code, printed = suite.run(**ONE)
    assert code == 1
    assert "merge failed: exit code" in printed and "rollout_000000.parquet" in printed
    bank = suite.directory / "runs" / RUN / "token_bank"
    for file in bank.glob("rollout_*.parquet"):
        shutil.copyfile(good / file.name, file)
    code, printed = suite.run(**ONE)
    assert code == 0, printed
    assert suite.rollouts(RUN) == [0, 1, 2, 3, 4, 5]


def test_a_failed_run_ends_the_suite_where_that_is_wanted(suite):
    suite.order("ray_fails", 3)
    code, _ = suite.run(STOP_ON_FAILURE="1")
    assert code == 1
    assert not suite.rollouts("random-0.10-seed42")


def test_machines_that_do_not_join_fail_the_run(suite):
    code, printed = suite.run(
        ACTOR_NUM_NODES="2",
        RAY_NODE_IP="10.255.255.1",
        TEACHER_URL="http://10.255.255.1:1",
        RAY_WORKER_WAIT="1",
        WORKER_NUM_GPUS="2",
        **ONE,
    )
    assert code == 1
    assert "1 of 2 machines are there after 1 seconds" in printed
    assert "start --address 10.255.255.1:" in printed
