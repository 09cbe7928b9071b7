"""DRY_RUN=1: every command, resolved and quoted, compared with golden/; nothing run, nothing written.

After a change that is meant: RENEW_GOLDENS=1 python -m pytest tests/launch/test_dry_run.py, then read the difference.
The estimates (lines that begin with `#   `) are run_plan's and not part of the goldens.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from ta_opd.methods import SELECTORS

from .suite import REPO

GOLDEN = Path(__file__).with_name("golden")
PAIRS = sorted(path.stem for path in (REPO / "configs/pairs").glob("*.sh"))
ALL_METHODS = " ".join(f"{selector.name}:0.10:{index}" for index, selector in enumerate(SELECTORS, start=1))
# Fixed, so that the goldens are; nothing listens, nothing is looked for.
STEADY = {
    "OUTPUT_ROOT": "/suites",
    "TAG": None,
    "PROMPT_DATA": "/data/prompts.jsonl",
    "TEACHER_MODEL": "/models/teacher",
    "STUDENT_HF": "/models/student",
    "STUDENT_TORCH_DIST": "/models/student_torch_dist",
    "RAY_TEMP_DIR": "/tmp/ray-ta-opd",
    "TEACHER_COMMAND": None,
    "TRAIN_COMMAND": None,
    "RAY_COMMAND": None,
    "NUM_ROLLOUT": None,
    "SAVE_INTERVAL": None,
    "TEACHER_WAIT": None,
    **dict.fromkeys(
        (
            *("TEACHER_PORT", "TEACHER_NCCL_PORT", "RAY_PORT", "RAY_DASHBOARD_PORT", "RAY_OBJECT_MANAGER_PORT"),
            *("RAY_NODE_MANAGER_PORT", "RAY_DASHBOARD_AGENT_LISTEN_PORT", "RAY_DASHBOARD_AGENT_GRPC_PORT"),
            "RAY_METRICS_EXPORT_PORT",
        )
    ),
}


def dry_run(suite, **settings):
    before = sorted(suite.place.rglob("*"))
    code, printed = suite.run(**{**STEADY, "DRY_RUN": "1", **settings})
    assert code == 0, printed
    assert sorted(suite.place.rglob("*")) == before and not Path("/suites").exists()
    return printed


def steady(suite, printed):
    """Without what differs from machine to machine."""
    paths = {suite.environment["PYTHON"]: "PYTHON", str(suite.place.parent / "slime"): "SLIME_DIR", str(REPO): "REPO"}
    for path, label in paths.items():
        printed = printed.replace(path, label)
    lines = [line for line in printed.splitlines() if not line.startswith("#   ")]
    return re.sub(r'("NCCL_NVLS_ENABLE": )"[01]"', r"\1HAS_NVLINK", "\n".join(lines) + "\n")


def compare(name, text):
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("RENEW_GOLDENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{path} differs; this file's first lines say how to renew it"


def test_the_commands_of_every_method_are_the_golden_ones(steady_suite):
    compare("methods", steady(steady_suite, dry_run(steady_suite, METHOD_LIST=ALL_METHODS)))


@pytest.fixture
def steady_suite(tmp_path, suite):
    """The checkout under a path without quotes: their escapes in the goldens would hide the rest."""
    (suite.place.parent / "slime").symlink_to(suite.environment["SLIME_DIR"])
    suite.environment["SLIME_DIR"] = str(suite.place.parent / "slime")
    return suite


@pytest.mark.parametrize("pair", PAIRS)
def test_the_commands_of_every_pair_are_the_golden_ones(steady_suite, pair):
    models = dict.fromkeys(("TEACHER_MODEL", "STUDENT_HF", "STUDENT_TORCH_DIST", "STUDENT_MODEL_SCRIPT"))
    printed = dry_run(steady_suite, PAIR=pair, MODELS_DIR="/models", METHOD_LIST="teachability:0.10:20", **models)
    compare(f"pair_{pair}", steady(steady_suite, printed))


def test_a_loss_two_teachers_two_machines_and_colocation_are_the_golden_ones(steady_suite):
    printed = dry_run(
        steady_suite,
        METHOD_LIST="teachability:0.05:3",
        OPD_LOSS="jsd",
        OPD_LOSS_TOP_K="16",
        TEACHER_REPLICAS="2",
        TEACHER_GPU="0,1",
        TEACHER_HOST="10.0.0.1",
        RAY_NODE_IP="10.0.0.1",
        RAY_GPUS="2,3,4,5",
        COLOCATE="1",
        ACTOR_NUM_NODES="2",
        ACTOR_NUM_GPUS_PER_NODE="4",
        TENSOR_PARALLEL="2",
        COMMON_CONTEXT="/contexts.parquet",
        USE_WANDB="1",
        EXTRA_ARGS="--apply-chat-template-kwargs '{\"enable_thinking\": false}'",
    )
    compare("colocated_two_machines", steady(steady_suite, printed))


def test_the_local_backend_prints_the_engine_s_command(steady_suite):
    printed = dry_run(
        steady_suite, BACKEND="local", METHOD_LIST="teachability:0.10:1", LOCAL_STEPS="3", PROMPT_DATA=None
    )
    compare("local", steady(steady_suite, printed))


def test_every_command_can_be_pasted_into_a_shell(suite):
    """The words of the training's command, split by a shell, are those that the training gets."""
    settings = {"METHOD_LIST": "teachability:0.10:1", "NUM_ROLLOUT": "1"}
    awkward = "--note 'a \"b\" $HOME `id` \\ * é' --empty ''"
    printed = suite.run(DRY_RUN="1", EXTRA_ARGS=awkward, **settings)[1]
    text = printed.partition("# training: ")[2].partition("\n")[2].partition("\n\n#")[0]
    code, output = suite.run(EXTRA_ARGS=awkward, **settings)
    assert code == 0, output
    (train,) = suite.journal("train")
    split = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {text}"], capture_output=True, text=True, check=True
    ).stdout.split("\0")[:-1]
    stand_in = shlex.split(suite.environment["TRAIN_COMMAND"])
    assert split == [*stand_in, *train["words"]]
    assert train["words"][-4:] == ["--note", 'a "b" $HOME `id` \\ * é', "--empty", ""]


def test_a_dry_run_says_what_the_runs_will_need(suite):
    printed = dry_run(suite, METHOD_LIST="teachability:0.10:1")
    estimate = "\n".join(line for line in printed.splitlines() if line.startswith("#   ")).lower()
    for word in ("gpu", "port", "token", "memory", "teacher"):
        assert word in estimate, word


def test_a_mistake_is_one_line_and_exit_code_2(suite):
    code, printed = suite.run(METHOD_LIST="teachabilty:0.10")
    assert code == 2
    assert printed.startswith("run_plan: error: ") and "teachability" in printed and printed.count("\n") == 1
    code, printed = suite.run("surplus")
    assert code == 2 and printed.count("\n") == 1


def test_a_checkout_without_the_patch_is_refused(suite):
    bare = suite.place / "bare"
    for name in ("train.py", "slime/__init__.py", "slime/rollout/on_policy_distillation.py"):
        (bare / name).parent.mkdir(parents=True, exist_ok=True)
        (bare / name).write_text("")
    code, printed = suite.run(
        SLIME_DIR=str(bare), STUDENT_MODEL_SCRIPT=str(suite.environment["SLIME_DIR"]) + "/scripts/models/qwen3-1.7B.sh"
    )
    assert code == 2
    assert "install_patch.py apply" in printed
    assert not suite.journal()


def test_a_sweep_is_methods_times_ratios(suite):
    printed = dry_run_of(
        suite, "run_budget_sweep.sh", METHODS="teachability random pure_opd", RATIOS="0.01 0.1", SEEDS="1 2"
    )
    names = re.findall(r"^## (.*)", printed, re.M)
    assert len(names) == 10 and len(set(names)) == 10
    assert sum(name.startswith("pure_opd-1.00") for name in names) == 2


def test_one_run_is_a_suite_of_one(suite):
    printed = dry_run_of(suite, "run_opd.sh", "tip:0.05:7")
    assert re.findall(r"^## (.*)", printed, re.M) == ["tip-0.05-seed42"]


def dry_run_of(suite, command, *words, **settings):
    process = suite.launch(*words, command=command, **{**STEADY, "DRY_RUN": "1", "METHOD_LIST": None, **settings})
    printed, _ = process.communicate(timeout=400)
    assert process.returncode == 0, printed
    return printed


@pytest.mark.parametrize("spelling", ["true", "yes", "TRUE", " 1", "2", "no"])
def test_only_0_and_1_say_whether_it_is_a_dry_run(suite, spelling):
    before = sorted(suite.place.rglob("*"))
    code, printed = suite.run(DRY_RUN=spelling)
    assert (code, printed.count("\n")) == (2, 1) and f"DRY_RUN '{spelling}' is neither 0 nor 1" in printed
    assert sorted(suite.place.rglob("*")) == before
