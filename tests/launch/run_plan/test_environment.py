"""Where a value comes from, and which unknown names are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_plan.environment import all_variables, read_settings
from run_plan.unknown_names import one_edit_apart


def test_the_environment_comes_before_the_pair_file_and_that_before_the_default(tmp_path):
    pair = tmp_path / "pair.sh"
    pair.write_text("LR=1e-5\nNUM_ROLLOUT=7\nTEACHER_MODEL=a/b\n", encoding="utf-8")
    settings = read_settings({"PAIR": str(pair), "NUM_ROLLOUT": "9"})
    assert (settings["LR"], settings["NUM_ROLLOUT"], settings["TEACHER_MODEL"]) == ("1e-5", "9", "a/b")
    assert settings["ROLLOUT_BATCH_SIZE"] == "4"
    assert settings.somebody_set("LR") and not settings.somebody_set("SEED")


def test_an_empty_variable_is_one_that_nobody_set(tmp_path):
    pair = tmp_path / "pair.sh"
    pair.write_text("LR=1e-5\nSEED=\n", encoding="utf-8")
    settings = read_settings({"PAIR": str(pair), "LR": "", "NUM_ROLLOUT": ""})
    assert (settings["LR"], settings["NUM_ROLLOUT"], settings["SEED"]) == ("1e-5", "50", "42")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("OPD_BUDGET_RATIOS", "OPD_BUDGET_RATIO"),
        ("OPD_JSD_BETTA", "OPD_JSD_BETA"),
        ("TEACHER_GPUS", "TEACHER_GPU"),
        ("TEACHER_URLS", "TEACHER_URL"),
        ("STUDENT_HFF", "STUDENT_HF"),
        ("ROLLOUT_BATCHSIZE", "ROLLOUT_BATCH_SIZE"),
        ("ACTOR_NUM_GPU_PER_NODE", "ACTOR_NUM_GPUS_PER_NODE"),
        ("METHODS_LIST", "METHOD_LIST"),
        ("MEHTOD_LIST", "METHOD_LIST"),
        ("NUM_ROLLOUTS", "NUM_ROLLOUT"),
        ("SAVE_INTERVALL", "SAVE_INTERVAL"),
        ("RAY_DASHBORD_PORT", "RAY_DASHBOARD_PORT"),
        ("TENSOR_PARALEL", "TENSOR_PARALLEL"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(name, near):
    with pytest.raises(ValueError, match=f"^unknown variable {name}; did you mean {near}\\?$"):
        read_settings({name: "1"})


def test_names_of_upstream_that_the_launchers_do_not_take_say_why():
    for name, reason in (
        ("OPD_TYPE", "--opd-type sglang"),
        ("OPD_TEACHER_LOAD", "--opd-type megatron"),
        ("OPD_TOKEN_BANK_DIR", "each run has its own"),
        ("OPD_TEACHER_URL", "set TEACHER_URL"),
        ("DRYRUN", "set DRY_RUN"),
        ("METHOD", "set METHOD_LIST"),
        ("RATIO", "set METHOD_LIST"),
        ("METHODS", "read by run_budget_sweep.sh alone"),
        ("RATIOS", "read by run_budget_sweep.sh alone"),
    ):
        with pytest.raises(ValueError) as error:
            read_settings({name: "x"})
        assert name in str(error.value) and reason in str(error.value)
        assert read_settings({name: ""})["SEED"] == "42"


def test_an_ordinary_environment_passes():
    names = [
        "RAY_DEDUP_LOGS",
        "RAY_worker_register_timeout_seconds",
        "RAY_BACKEND_LOG_LEVEL",
        "RAY_TMPDIR",
        "RAY_NAMESPACE",
        "RAY_JOB_ID",
        "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE",
        "RAY_USAGE_STATS_ENABLED",
        "RAY_HEAD_SERVICE_HOST",
        "RAY_CLIENT_MODE",
        "RAY_RUNTIME_ENV_HOOK",
        "WANDB_API_KEY",
        "WANDB_MODE",
        "WANDB_DIR",
        "WANDB_NAME",
        "WANDB_RUN_GROUP",
        "WANDB_ENTITY",
        "WANDB_RUN_ID",
        "PYTHONPATH",
        "PYTHONHASHSEED",
        "HF_HOME",
        "HF_TOKEN",
        "CUDA_VISIBLE_DEVICES",
        "CUDA_HOME",
        "NCCL_DEBUG",
        "SLURM_JOB_ID",
        "SLURM_NNODES",
        "MASTER_ADDR",
        "MASTER_PORT",
        "LOCAL_RANK",
        "RANK",
        "WORLD_SIZE",
        "SGLANG_HOST_IP",
        "SGLANG_LOG_LEVEL",
        "OMP_NUM_THREADS",
        "LOGDIR",
        "MODEL_DIR",
        "SLIME_DIRS",
        "MEGATRON_DIR",
        "no_proxy",
        "HTTP_PROXY",
        "TEACHER_SERVICE_HOST",
        "TEACHER_SERVICE_PORT",
        "TEACHER_SERVICE_PORT_HTTP",
        "TEACHER_PORT_8000_TCP",
        "LC_ALL",
        "TEACHER_PORT_8000_TCP_ADDR",
        "STUDENT_SERVICE_PORT",
        "KUBERNETES_PORT",
        "GITHUB_ACTIONS",
        "CI",
        "MODEL_NAME",
        "DATA_DIR",
        "GPUS",
        "PYTHON3",
        "TAGS",
        "EVAL_DATA",
        "LOCAL_DIR",
        "TRAIN_DATA",
    ]
    assert read_settings(dict.fromkeys(names, "anything"))["SEED"] == "42"


def test_kubernetes_address_of_a_service_is_no_port():
    with pytest.raises(ValueError, match=r"^TEACHER_PORT 'tcp://10\.0\.0\.1:80' is what Kubernetes tells"):
        read_settings({"TEACHER_PORT": "tcp://10.0.0.1:80"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("NUM_ROLLOUT", "0", "NUM_ROLLOUT 0 is outside 1 or more"),
        ("NUM_ROLLOUT", "ten", "NUM_ROLLOUT 'ten' is not a whole number"),
        ("NUM_ROLLOUT", "1.5", "NUM_ROLLOUT '1.5' is not a whole number"),
        ("LR", "fast", "LR 'fast' is not a number"),
        ("LR", "inf", "LR 'inf' is not a finite number"),
        ("LR", "-1", "LR -1 is outside 0 or more"),
        ("COLOCATE", "2", "COLOCATE '2' is not 0 or 1"),
        ("RECOMPUTE", "some", "RECOMPUTE 'some' is not one of full, selective, none"),
        ("BACKEND", "locale", "BACKEND 'locale' is not one of slime, local"),
        ("TAG", "a/b", "TAG 'a/b' is not a name"),
        ("TAG", "..", "TAG '..' is not a name"),
        ("TEACHER_MEM_FRACTION", "1.5", "TEACHER_MEM_FRACTION 1.5 is outside 0.05..0.95"),
        ("TEACHER_PORT", "80", "TEACHER_PORT 80 is outside 1024..65535"),
        ("TEACHER_GPU", "0,x", "TEACHER_GPU '0,x': 'x' is not a GPU's number or UUID"),
        ("RAY_GPUS", "1,01", "RAY_GPUS '1,01' names GPU 1 twice"),
        ("RAY_GPUS", "GPU-5ab,1", "RAY_GPUS 'GPU-5ab,1': 'GPU-5ab' is not a GPU's number, and slime reads numbers"),
        ("SEED", "-1", "SEED -1 is outside 0..999999999"),
        ("SEEDS", "1 1", "SEEDS '1 1' names a seed twice"),
        ("SEEDS", "1 -1", "SEEDS '1 -1' is not a list of whole numbers"),
        ("EXTRA_ARGS", "'open", 'EXTRA_ARGS "\'open" cannot be split into shell words: no closing quotation'),
        ("OUTPUT_ROOT", "a\nb", "OUTPUT_ROOT 'a\\nb' has a line break"),
        ("OPD_LOSS", "jds", "OPD_LOSS 'jds' is not one of sampled_token, forward_kl"),
    ],
)
def test_a_value_out_of_range_is_named(name, value, message):
    with pytest.raises(ValueError) as error:
        read_settings({name: value})
    assert message in str(error.value)


def test_every_default_is_a_value_that_its_variable_takes():
    for variable in all_variables().values():
        if variable.default:
            assert variable.parse(variable.default) == variable.default, variable.name


def test_no_two_variables_share_a_name():
    from run_plan.opd_variables import opd_variables
    from run_plan.variables import VARIABLES

    names = [v.name for v in (*VARIABLES, *opd_variables())]
    assert len(names) == len(set(names))


def optimal_string_alignment(a, b):
    d = [[max(i, j) if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            d[i][j] = min(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                d[i][j] = min(d[i][j], d[i - 2][j - 2] + 1)
    return d[-1][-1]


@given(st.text("ab", max_size=5), st.text("ab", max_size=5))
def test_one_edit_apart_is_a_distance_of_one(a, b):
    assert one_edit_apart(a, b) == (optimal_string_alignment(a, b) == 1)
