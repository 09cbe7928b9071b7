"""The teacher's server fails: at its start, on its port, in the middle of a training."""

import socket

ONE = {"METHOD_LIST": "teachability:0.10:1"}
RUN = "teachability-0.10-seed42"


def test_a_teacher_that_dies_at_its_start_fails_the_run_at_once_and_not_the_suite(suite):
    suite.order("teacher_fails", 1)
    code, printed = suite.run()
    assert code == 1
    assert "teacher failed: replica 0 ended with exit code 1 while starting" in printed
    assert "CUDA out of memory, says the stand-in" in printed
    assert suite.states(RUN)[-1] == ("teacher", "fail")
    assert suite.rollouts("random-0.10-seed42") == [0, 1, 2, 3, 4, 5]
    code, printed = suite.run()
    assert code == 0, printed
    assert suite.rollouts(RUN) == [0, 1, 2, 3, 4, 5]
    assert suite.rollouts("random-0.10-seed42") == [0, 1, 2, 3, 4, 5]


def test_a_teacher_that_never_answers_is_given_up_at_the_deadline(suite):
    suite.order("teacher_silent", 1)
    code, printed = suite.run(TEACHER_WAIT="1", **ONE)
    assert code == 1
    assert "replica 0 gave no answer within TEACHER_WAIT=1 seconds" in printed
    assert suite.states(RUN)[-1] == ("teacher", "fail")


def test_a_taken_port_is_named_before_anything_is_started(suite):
    port = int(suite.environment["TEACHER_PORT"]) + 1
    with socket.create_server(("127.0.0.1", port)):
        code, printed = suite.run(**ONE)
    assert code == 1
    assert f"TEACHER_PORT {port} is taken" in printed
    assert not suite.journal("teacher")


def test_a_taken_port_of_ray_is_named_and_the_teacher_ended(suite):
    port = int(suite.environment["RAY_METRICS_EXPORT_PORT"]) + 1
    with socket.create_server(("0.0.0.0", port)):
        code, printed = suite.run(**ONE)
    assert code == 1
    assert f"RAY_METRICS_EXPORT_PORT {port} is taken" in printed
    assert suite.states(RUN)[-1] == ("train", "fail")


def test_a_teacher_that_dies_in_training_is_started_again_on_its_port(suite):
    suite.order("teacher_deaths", 2)
    suite.order("teacher_dies", 2)
    code, printed = suite.run(**ONE)
    assert code == 0, printed
    assert "restart 2 of 2" in printed
    teachers = suite.journal("teacher")
    assert len(teachers) == 3
    assert len({tuple(line["words"]) for line in teachers}) == 1
    assert suite.rollouts(RUN) == [0, 1, 2, 3, 4, 5]


def test_a_teacher_that_dies_too_often_fails_the_run_and_ends_the_training(suite):
    suite.order("teacher_deaths", 9)
    suite.order("teacher_dies", 0)
    code, printed = suite.run(TEACHER_RESTARTS="1", **ONE)
    assert code == 1
    assert "it was restarted TEACHER_RESTARTS=1 times" in printed
    assert suite.states(RUN)[-1] == ("train", "fail")


def test_replicas_have_their_own_gpus_and_ports(suite):
    code, printed = suite.run(
        TEACHER_REPLICAS="2", TEACHER_TP="2", TEACHER_GPU="0,1,2,3", RAY_GPUS="4,5", NUM_ROLLOUT="1", **ONE
    )
    assert code == 0, printed
    base = int(suite.environment["TEACHER_PORT"]) + 1
    ports = {line["cuda"]: int(line["words"][line["words"].index("--port") + 1]) for line in suite.journal("teacher")}
    assert ports == {"0,1": base, "2,3": base + 500}
    (train,) = suite.journal("train")
    urls = train["words"][train["words"].index("--opd-teacher-url") + 1]
    assert urls == f"http://127.0.0.1:{base}/generate,http://127.0.0.1:{base + 500}/generate"
    assert {line["cuda"] for line in suite.journal("ray") if line["words"][0] == "start"} == {"4,5"}


def test_a_running_teacher_is_used_and_left_alone(suite):
    server = suite.launch(command="start_teacher.sh", NUM_ROLLOUT="1")
    try:
        url = next(line for line in server.stdout if line.startswith("TEACHER_URL=")).strip().partition("=")[2]
        code, printed = suite.run(TEACHER_URL=url, NUM_ROLLOUT="1", **ONE)
        assert code == 0, printed
        assert len(suite.journal("teacher")) == 1 and server.poll() is None
        assert suite.states(RUN)[0] == ("teacher", "skip")
    finally:
        server.terminate()
        assert server.wait(300) == 143
        server.stdout.close()
