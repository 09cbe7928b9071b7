"""GPUs, ports and parallel sizes: what is worked out, and every refusal."""

import itertools

import pytest

RELEASED_PORTS = {
    "TEACHER_PORT": 14141,
    "TEACHER_NCCL_PORT": 24141,
    "RAY_PORT": 26379,
    "RAY_DASHBOARD_PORT": 8365,
    "RAY_OBJECT_MANAGER_PORT": 29076,
    "RAY_NODE_MANAGER_PORT": 29077,
    "RAY_DASHBOARD_AGENT_LISTEN_PORT": 29078,
    "RAY_DASHBOARD_AGENT_GRPC_PORT": 29079,
    "RAY_METRICS_EXPORT_PORT": 29080,
}


def test_the_index_offsets_all_nine_ports(planned):
    for run in planned(METHOD_LIST="tip:0.1:20 q3:0.1:0 random:0.1").runs:
        for name, base in RELEASED_PORTS.items():
            assert int(run.variables[name]) == base + run.entry.index
    assert [run.entry.index for run in planned(METHOD_LIST="tip:0.1:20 q3:0.1:0 random:0.1").runs] == [20, 0, 30]


def test_replicas_have_gpus_and_ports_of_their_own(planned):
    more = {"TEACHER_REPLICAS": "2", "TEACHER_TP": "2", "TEACHER_GPU": "0 3,4,5", "TEACHER_HOST": "::1"}
    v = planned(METHOD_LIST="tip:0.1:20", **more).runs[0].variables
    assert v["TEACHER_REPLICA_GPUS"] == "0,3 4,5"
    assert (v["TEACHER_PORTS"], v["TEACHER_NCCL_PORTS"]) == ("14161 14661", "24161 24661")
    assert v["TEACHER_URLS"] == "http://[::1]:14161/generate,http://[::1]:14661/generate"


def test_running_teachers_are_used_and_none_is_planned(planned):
    urls = "http://a:1/generate, https://b:2 http://c:3/v1/generate"
    v = planned(TEACHER_URL=urls, TEACHER_GPU="1", METHOD_LIST="tip").runs[0].variables
    assert v["TEACHER_URLS"] == "http://a:1/generate,https://b:2/generate,http://c:3/v1/generate"
    assert (v["TEACHER_PORTS"], v["TEACHER_NCCL_PORTS"], v["TEACHER_REPLICA_GPUS"]) == ("", "", "")


def test_colocated_training_samples_on_all_its_gpus(planned):
    v = planned(COLOCATE="1", ACTOR_NUM_GPUS_PER_NODE="2", METHOD_LIST="tip").runs[0].variables
    assert (v["ROLLOUT_NUM_GPUS"], v["DATA_PARALLEL"], v["EVAL_GPUS"]) == ("2", "2", "1,2")


def test_sequence_parallelism_follows_tensor_parallelism(planned):
    more = {"ACTOR_NUM_GPUS_PER_NODE": "2", "RAY_GPUS": "1,2,3", "TENSOR_PARALLEL": "2"}
    assert planned(**more).variables["SEQUENCE_PARALLEL"] == "1"
    assert planned(**more, SEQUENCE_PARALLEL="0").variables["SEQUENCE_PARALLEL"] == "0"
    assert planned().variables["SEQUENCE_PARALLEL"] == "0"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"METHOD_LIST": "tip:0.1:60000"}, "TEACHER_PORT 14141 + index 60000 is port 74141, above 65535"),
        (
            {"RAY_PORT": "14141"},
            "RAY_PORT 14141 + index 20 is port 14161, which is also TEACHER_PORT 14141 + index 20",
        ),
        (
            {"TEACHER_REPLICAS": "3", "TEACHER_GPU": "0,5,6", "RAY_DASHBOARD_PORT": "15141"},
            "RAY_DASHBOARD_PORT 15141 + index 20 is port 15161, which is also TEACHER_PORT 14141 + index 20 + 1000",
        ),
        (
            {"TEACHER_GPU": "1"},
            "TEACHER_GPU '1' and RAY_GPUS '1,2' share GPU 1: the teacher must be out of Ray's sight",
        ),
        ({"TEACHER_GPU": "0,3"}, "TEACHER_GPU '0,3' names 2 GPUs, and TEACHER_REPLICAS 1 x TEACHER_TP 1 need 1"),
        ({"RAY_GPUS": "1"}, "are 1 GPUs, and ACTOR_NUM_GPUS_PER_NODE 1 + ROLLOUT_NUM_GPUS 1 need 2"),
        (
            {"ROLLOUT_NUM_GPUS": "1", "COLOCATE": "1", "ACTOR_NUM_GPUS_PER_NODE": "2"},
            "ROLLOUT_NUM_GPUS 1 with COLOCATE=1",
        ),
        ({"ROLLOUT_NUM_GPUS_PER_ENGINE": "2"}, "ROLLOUT_NUM_GPUS 1 is not a multiple of ROLLOUT_NUM_GPUS_PER_ENGINE 2"),
        (
            {"TENSOR_PARALLEL": "2"},
            "TENSOR_PARALLEL x PIPELINE_PARALLEL x CONTEXT_PARALLEL is 2, which does not divide",
        ),
        (
            {"ACTOR_NUM_GPUS_PER_NODE": "3", "TENSOR_PARALLEL": "3", "RAY_GPUS": "1,2,3,4"},
            "TENSOR_PARALLEL 3 does not divide the student's --num-attention-heads 16",
        ),
        (
            {"ACTOR_NUM_GPUS_PER_NODE": "3", "PIPELINE_PARALLEL": "3", "RAY_GPUS": "1,2,3,4"},
            "PIPELINE_PARALLEL 3 does not divide the student's --num-layers 28",
        ),
        (
            {"MICRO_BATCH_SIZE": "3"},
            "GLOBAL_BATCH_SIZE 8 is not a multiple of MICRO_BATCH_SIZE 3 x 1 data-parallel copies",
        ),
        (
            {"GLOBAL_BATCH_SIZE": "16"},
            "GLOBAL_BATCH_SIZE 16 does not divide ROLLOUT_BATCH_SIZE x N_SAMPLES_PER_PROMPT = 8",
        ),
        ({"RAY_ADDRESS": "auto"}, "RAY_ADDRESS 'auto' is not http://HOST:PORT of Ray's dashboard"),
        ({"RAY_ADDRESS": "http://h:port"}, "RAY_ADDRESS 'http://h:port' is not http://HOST:PORT"),
        ({"ACTOR_NUM_NODES": "2"}, "RAY_NODE_IP '127.0.0.1' with ACTOR_NUM_NODES 2: other machines cannot join it"),
        (
            {"ACTOR_NUM_NODES": "2", "RAY_NODE_IP": "10.0.0.1", "RAY_GPUS": "1,2", "WORKER_NUM_GPUS": "2"},
            "TEACHER_HOST '127.0.0.1' with ACTOR_NUM_NODES 2: other machines cannot reach it",
        ),
        (
            {"RAY_ADDRESS": "http://10.0.0.2:8265"},
            "TEACHER_HOST '127.0.0.1' with RAY_ADDRESS http://10.0.0.2:8265: other machines cannot reach it",
        ),
        ({"RAY_ADDRESS": "http://h:1", "TEACHER_HOST": "[::1]"}, "TEACHER_HOST '[::1]' with RAY_ADDRESS http://h:1"),
        ({"TEACHER_URL": "teacher:1"}, "TEACHER_URL: 'teacher:1' is not http://HOST:PORT"),
        (
            {"TEACHER_CONTEXT_LENGTH": "1087"},
            "TEACHER_CONTEXT_LENGTH 1087 is less than 1088 tokens, the longest sample",
        ),
        ({"RAY_TEMP_DIR": "/" + "x" * 42}, "has 43 bytes; Ray's sockets leave room for 42"),
    ],
)
def test_a_layout_that_cannot_work_is_refused(refused, more, message):
    assert message in refused(**more)


SEVERAL = {"ACTOR_NUM_NODES": "2", "RAY_NODE_IP": "10.0.0.1", "TEACHER_HOST": "10.0.0.1", "METHOD_LIST": "tip"}


def test_the_other_machines_give_as_many_gpus_as_train_there_unless_said(planned):
    v = planned(**SEVERAL, COLOCATE="1", RAY_GPUS="1").runs[0].variables
    assert (v["WORKER_NUM_GPUS"], v["NUM_GPUS_PER_NODE"], v["DATA_PARALLEL"]) == ("1", "1", "2")
    v = planned(**SEVERAL, WORKER_NUM_GPUS="2").runs[0].variables
    assert (v["WORKER_NUM_GPUS"], v["NUM_GPUS_PER_NODE"], v["DATA_PARALLEL"]) == ("2", "2", "2")


def test_slime_is_told_the_gpus_of_this_machine(planned):
    assert planned(RAY_GPUS="1,2,3").runs[0].variables["NUM_GPUS_PER_NODE"] == "3"
    assert planned(RAY_GPUS="1,2,3", COLOCATE="1").runs[0].variables["NUM_GPUS_PER_NODE"] == "1"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {},
            "RAY_GPUS '1,2' are 2 GPUs, and WORKER_NUM_GPUS 1 on each other machine: slime places sampling engines",
        ),
        (
            {"RAY_GPUS": "1"},
            "RAY_GPUS '1' and 1 x WORKER_NUM_GPUS 1 on other machines are 2 GPUs, and ACTOR_NUM_NODES 2 x "
            "ACTOR_NUM_GPUS_PER_NODE 1 + ROLLOUT_NUM_GPUS 1 need 3",
        ),
        (
            {"ACTOR_NUM_GPUS_PER_NODE": "2", "RAY_GPUS": "1"},
            "RAY_GPUS '1': a machine with 1 GPUs has fewer than ACTOR_NUM_GPUS_PER_NODE 2",
        ),
        (
            {"ACTOR_NUM_GPUS_PER_NODE": "2", "WORKER_NUM_GPUS": "1"},
            "WORKER_NUM_GPUS '1': a machine with 1 GPUs has fewer than ACTOR_NUM_GPUS_PER_NODE 2",
        ),
        (
            {"WORKER_NUM_GPUS": "3", "RAY_GPUS": "1,2,3", "ROLLOUT_NUM_GPUS": "2"},
            "ROLLOUT_NUM_GPUS 2 after 2 GPUs that train, with 3 GPUs a machine: sampling over several machines needs",
        ),
        (
            {
                "WORKER_NUM_GPUS": "4",
                "RAY_GPUS": "1,2,3,4",
                "ACTOR_NUM_GPUS_PER_NODE": "3",
                "ROLLOUT_NUM_GPUS_PER_ENGINE": "3",
                "COLOCATE": "1",
            },
            "ROLLOUT_NUM_GPUS_PER_ENGINE 3 with 4 GPUs a machine: sampling over several machines needs engines",
        ),
        (
            {"WORKER_NUM_GPUS": "4", "RAY_GPUS": "1,2,3,4", "ACTOR_NUM_GPUS_PER_NODE": "3", "COLOCATE": "1"},
            "ROLLOUT_NUM_GPUS 6 after 0 GPUs that train, with 4 GPUs a machine",
        ),
    ],
)
def test_machines_that_do_not_suffice_or_differ_are_refused(refused, more, message):
    assert message in refused(**SEVERAL | more)


@pytest.mark.parametrize(
    "more",
    [
        {"ACTOR_NUM_GPUS_PER_NODE": "4", "COLOCATE": "1", "ROLLOUT_NUM_GPUS_PER_ENGINE": "8"},
        {"ACTOR_NUM_GPUS_PER_NODE": "2", "ROLLOUT_NUM_GPUS": "4", "ROLLOUT_NUM_GPUS_PER_ENGINE": "2"},
        {"ACTOR_NUM_GPUS_PER_NODE": "1", "ROLLOUT_NUM_GPUS": "2"},
        {"ACTOR_NUM_GPUS_PER_NODE": "1", "ACTOR_NUM_NODES": "4", "ROLLOUT_NUM_GPUS": "8"},
    ],
)
def test_sampling_that_fills_machines_or_stays_on_one_is_taken(planned, more):
    planned(**SEVERAL | {"WORKER_NUM_GPUS": "4", "RAY_GPUS": "1,2,3,4"} | more)


def test_every_engine_that_is_taken_lies_on_the_machine_that_slime_thinks(environment):
    """slime/ray/rollout.py: engine i begins at GPU `before + i * (GPUs of it on a machine)` of machines that are packed
    full, in any order of them; its machine by slime's count is i // (GPUs of a machine // GPUs of it)."""
    from run_plan.environment import read_settings
    from run_plan.machines import gpus_of_a_machine

    taken = 0
    for nodes, per_node, machine, engine, engines, colocate in itertools.product(
        (2, 3), (1, 2, 3, 4), (2, 3, 4), (1, 2, 3, 4, 8), (1, 2, 3, 4), "01"
    ):
        training = nodes * per_node
        rollout = training if colocate == "1" else engine * engines
        needed = training if colocate == "1" else training + rollout
        if rollout % engine:
            continue
        names = {"ACTOR_NUM_NODES": nodes, "ACTOR_NUM_GPUS_PER_NODE": per_node, "WORKER_NUM_GPUS": machine}
        names |= {"ROLLOUT_NUM_GPUS_PER_ENGINE": engine, "COLOCATE": colocate, "ROLLOUT_NUM_GPUS": rollout}
        settings = read_settings({name: str(value) for name, value in names.items()})
        try:
            assert gpus_of_a_machine(settings, machine, training, rollout) == machine
        except ValueError:
            continue
        taken += 1
        full, rest = divmod(needed, machine)
        for sizes in set(itertools.permutations([machine] * full + [rest] * bool(rest))):
            gpus = [m for m, size in enumerate(sizes) for _ in range(size)][needed - rollout :]
            on_one = min(engine, machine)
            parts = [set(gpus[first : first + on_one]) for first in range(0, rollout, on_one)]
            assert all(len(part) == 1 for part in parts), names
            group = max(1, machine // engine)
            thought = [{tuple(sorted(part)) for part in parts[i : i + group]} for i in range(0, len(parts), group)]
            assert all(len(machines) == 1 for machines in thought), names
    assert taken > 50


def test_on_a_running_cluster_the_gpus_of_this_machine_do_not_count(planned):
    more = {"RAY_ADDRESS": "http://head:8265", "RAY_GPUS": "0", "EVAL_GPUS": "0", "TEACHER_HOST": "10.0.0.1"}
    v = planned(**more).runs[0].variables
    assert (v["RAY_ADDRESS"], v["NUM_GPUS_PER_NODE"]) == ("http://head:8265", "")
    assert planned(**more, WORKER_NUM_GPUS="4").runs[0].variables["NUM_GPUS_PER_NODE"] == "4"
    assert planned(**more, COLOCATE="1").runs[0].variables["NUM_GPUS_PER_NODE"] == "1"


def test_a_cluster_s_machine_with_too_few_gpus_is_refused(refused):
    more = {"RAY_ADDRESS": "http://127.0.0.1:8265", "ACTOR_NUM_GPUS_PER_NODE": "2", "WORKER_NUM_GPUS": "1"}
    assert "WORKER_NUM_GPUS '1': a machine with 1 GPUs has fewer than ACTOR_NUM_GPUS_PER_NODE 2" in refused(**more)


@pytest.mark.parametrize("more", [{"RAY_ADDRESS": "http://127.0.0.1:8265"}, {"RAY_ADDRESS": "http://[::1]:8265"}])
def test_a_cluster_and_a_teacher_on_this_machine_reach_each_other(planned, more):
    assert planned(**more)


def test_a_teacher_elsewhere_may_be_reached_from_a_cluster_elsewhere(planned):
    assert planned(RAY_ADDRESS="http://10.0.0.2:8265", TEACHER_URL="http://10.0.0.3:1")


def test_a_teacher_s_uuid_beside_ray_s_numbers_is_taken(planned):
    assert planned(TEACHER_GPU="GPU-5ab").runs[0].variables["TEACHER_REPLICA_GPUS"] == "GPU-5ab"
