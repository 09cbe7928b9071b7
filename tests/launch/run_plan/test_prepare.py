"""`prepare`: the files it writes, what bash makes of them, and when a run may go on."""

import argparse
import ast
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from run_plan.cli import main
from run_plan.extra_args import FLAGS_OF_VARIABLES, SLIME_FLAGS
from run_plan.opd_variables import flags_of, opd_variables
from run_plan.plan_files import settings_env
from ta_opd.option_fields import add_flags
from ta_opd.options import add_arguments
from ta_opd.slime_options import SlimeOptions

RUN = "teachability-0.10-seed42"


@pytest.fixture
def prepare(environment, monkeypatch, capsys):
    """prepare(words, NAME=value, ...): exit code, standard output, standard error."""

    def run(*words, **more):
        for name in list(os.environ):
            monkeypatch.delenv(name)
        for name, value in (environment | more).items():
            monkeypatch.setenv(name, value)
        code = main(["prepare", *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def bash(script, *arguments):
    done = subprocess.run(["bash", "-euc", script, "-", *map(str, arguments)], capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode()


def sourced(path, *names):
    text = bash('source "$1"; shift; for name; do printf "%s\\0" "${!name}"; done', path, *names)
    return dict(zip(names, text.split("\0")[:-1], strict=True))


def test_names_are_printed_and_every_file_is_there(prepare, tmp_path):
    assert prepare() == (0, f"{RUN}\npure_opd-1.00-seed42\n", "")
    suite = tmp_path / "out" / "suite"
    assert sorted(p.name for p in suite.iterdir()) == ["method_mapping.csv", "runs", "settings.env", "settings.json"]
    assert sorted(p.name for p in (suite / "runs" / RUN).iterdir()) == [
        "opd.yaml",
        "opd_args",
        "settings.env",
        "settings.json",
    ]
    mapping = (suite / "method_mapping.csv").read_text()
    assert mapping.splitlines() == [
        "method,mask,ratio,idx,notes",
        "teachability,dlearn_high,0.10,20,",
        'pure_opd,full,1.00,20,"ratio 0.5 asked, forced to 1.0"',
    ]


def test_the_run_says_where_it_is_and_what_it_is(prepare, tmp_path):
    prepare(SEEDS="3 4")
    suite = tmp_path / "out" / "suite"
    found = sourced(
        suite / "runs" / "teachability-0.10-seed4" / "settings.env",
        *[
            "RUN_DIR",
            "SUITE_DIR",
            "METHOD",
            "MASK",
            "RATIO",
            "INDEX",
            "SEED",
            "ROLLOUT_SEED",
            "OPD_BUDGET_MASK_SEED",
            "LOG_DIR",
            "OPD_LOSS",
        ],
    )
    run = suite / "runs" / "teachability-0.10-seed4"
    assert found == {
        "RUN_DIR": str(run),
        "SUITE_DIR": str(suite),
        "METHOD": "teachability",
        "MASK": "dlearn_high",
        "RATIO": "0.10",
        "INDEX": "20",
        "SEED": "4",
        "ROLLOUT_SEED": "4",
        "OPD_BUDGET_MASK_SEED": "4",
        "LOG_DIR": str(run / "logs"),
        "OPD_LOSS": "sampled_token",
    }


def test_settings_json_and_settings_env_say_the_same(prepare, tmp_path):
    prepare(EXTRA_ARGS="--a 'b c'\n --d", WANDB_PROJECT="naïve 'x' $HOME `id`")
    for folder in (tmp_path / "out" / "suite", tmp_path / "out" / "suite" / "runs" / RUN):
        saved = json.loads((folder / "settings.json").read_text())["variables"]
        assert sourced(folder / "settings.env", *saved) == saved
        words = bash('source "$1"; printf "%s\\0" "${EXTRA_ARGS_WORDS[@]}"', folder / "settings.env")
        assert words.split("\0")[:-1] == ["--a", "b c", "--d"]


VALUE = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=20)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(VALUE, min_size=1, max_size=20))
def test_bash_reads_back_any_text(values):
    variables = {f"NAME{i}": value for i, value in enumerate(values)}
    done = subprocess.run(
        ["bash", "-euc", 'eval "$(cat)"; for name; do printf "%s\\0" "${!name}"; done', "-", *variables],
        input=settings_env(variables).encode(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().split("\0")[:-1] == values


@pytest.mark.parametrize(
    ("given", "attempts"),
    [
        ({"TEACHER_WAIT": "60"}, "8"),
        ({"TEACHER_WAIT": "61"}, "9"),
        ({"TEACHER_RESTARTS": "0"}, "6"),
        ({"TEACHER_URL": "http://teacher:1/generate", "TEACHER_GPU": ""}, "6"),
        ({"OPD_TEACHER_ATTEMPTS": "3"}, "3"),
    ],
)
def test_requests_are_repeated_until_a_restarted_teacher_may_answer(prepare, tmp_path, given, attempts):
    prepare(**given)
    run = tmp_path / "out" / "suite" / "runs" / RUN
    assert sourced(run / "settings.env", "OPD_TEACHER_ATTEMPTS") == {"OPD_TEACHER_ATTEMPTS": attempts}


def test_train_opd_reads_the_flags_as_they_were_meant(prepare, tmp_path):
    prepare(
        OPD_LOSS="jsd", OPD_JSD_BETA="0.3", OPD_TOKEN_BANK_RAW_TOPK="yes", OPD_TEACHER_NAME="a b", OPD_LOSS_TOP_K="64"
    )
    run = tmp_path / "out" / "suite" / "runs" / RUN
    parser = argparse.ArgumentParser()
    add_flags(parser, SlimeOptions)
    words = (run / "opd_args").read_text().split("\n")[:-1]
    options = SlimeOptions.from_namespace(parser.parse_args(words))
    wanted = SlimeOptions(
        topk_metrics_k=16,
        budget_mask="dlearn_high",
        budget_ratio=0.1,
        loss="jsd",
        jsd_beta=0.3,
        loss_top_k=64,
        token_bank_raw_topk=True,
        token_bank_dir=str(run / "token_bank"),
        teacher_url="http://127.0.0.1:14161/generate",
        teacher_attempts=36,
        teacher_name="a b",
        student_name="Qwen3-1.7B",
        token_bank_pair_id="qwen3_4b_to_1.7b",
    )
    assert options == wanted
    keys = yaml.safe_load((run / "opd.yaml").read_text())
    assert SlimeOptions.from_namespace(Namespace(**keys)) == wanted
    saved = sourced(run / "settings.env", *(v.name for v in opd_variables()))
    assert (saved["OPD_JSD_BETA"], saved["OPD_TOKEN_BANK_RAW_TOPK"], saved["OPD_BUDGET_RATIO"]) == ("0.3", "1", "0.1")


def test_every_field_of_the_library_is_a_variable_that_reaches_the_flags(planned):
    others = {"text": "t", "switch": "1", "integer": "3", "number": "0.5"}
    for variable in opd_variables():
        value = variable.choices[-1] if variable.choices else others[variable.kind]
        if variable.name in ("OPD_BUDGET_MASK", "OPD_BUDGET_RATIO"):
            continue
        for loss in ("sampled_token", "jsd", "skew_forward_kl", "taid", "entropy_aware"):
            try:
                (run, _) = planned(**{"OPD_LOSS": loss} | {variable.name: value}).runs
            except ValueError as error:
                assert "does nothing" in str(error), variable.name
                continue
            flag = "--" + variable.name.lower().replace("_", "-")
            default = {f"OPD_{f.name.upper()}": f.default for f in fields(SlimeOptions)}[variable.name]
            assert flag in flags_of(run.options) or run.variables[variable.name] == str(default), variable.name
            break
        else:
            pytest.fail(f"{variable.name} {value} is refused with every loss")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"OPD_JSD_BETA": "0.3"}, "OPD_JSD_BETA (--opd-jsd-beta) 0.3 does nothing with OPD_LOSS (--opd-loss) sampled"),
        ({"OPD_JSD_BETA": "1.3", "OPD_LOSS": "jsd"}, "OPD_JSD_BETA (--opd-jsd-beta) 1.3 is outside 0..1"),
        ({"OPD_LOSS_COEF": "2"}, "OPD_LOSS_COEF (--opd-loss-coef) 2.0 does nothing with OPD_LOSS (--opd-loss) sampled"),
        ({"OPD_TOPK_METRICS_K": "0"}, "OPD_TOPK_METRICS_K (--opd-topk-metrics-k)"),
        (
            {"OPD_METRIC_Q_LOW": "0.99"},
            "OPD_METRIC_Q_LOW (--opd-metric-q-low) 0.99 must be below OPD_METRIC_Q_HIGH (--opd-",
        ),
        ({"OPD_BUDGET_RATIO": "0.2"}, "OPD_BUDGET_RATIO 0.2 does nothing: no entry of METHOD_LIST is left to take it"),
        ({"OPD_BUDGET_RATIO": "1.2"}, "OPD_BUDGET_RATIO: the ratio 1.2 is outside (0, 1]"),
        (
            {"OPD_BUDGET_MASK": "tip"},
            "METHOD_LIST 'teachability:0.1:20 pure_opd:0.5' and OPD_BUDGET_MASK 'tip' say the same",
        ),
        ({"RUN_LIST": "tip"}, "and RUN_LIST 'tip' say the same thing; set one"),
        ({"SEED": "1", "SEEDS": "1 2"}, "SEED '1' and SEEDS '1 2' say the same thing; set one"),
        ({"SEED_LABEL": "a", "SEEDS": "1 2"}, "SEED_LABEL 'a' with SEEDS '1 2': it names one seed"),
        (
            {"SAVE_DEBUG_ROLLOUT_DATA": "/x.pt"},
            "SAVE_DEBUG_ROLLOUT_DATA '/x.pt' is not 0, 1 or a path with {rollout_id}",
        ),
        ({"STUDENT_MODEL_SCRIPT": "qwen3-17B"}, "did you mean qwen3-1.7B?"),
        ({"PROMPT_DATA": "/nowhere.jsonl"}, "PROMPT_DATA '/nowhere.jsonl': there is no such file"),
        ({"TEACHER_MODEL": "/nowhere"}, "TEACHER_MODEL '/nowhere': there is no such folder"),
        ({"STUDENT_TORCH_DIST": "/nowhere"}, "STUDENT_TORCH_DIST '/nowhere': there is no such folder"),
        ({"STUDENT_TORCH_DIST": "absent"}, "/models/absent': there is no such folder"),
        ({"SLIME_DIR": "/nowhere"}, "SLIME_DIR '/nowhere': there is no such folder"),
        ({"BACKEND": "local", "OPD_MASK_TARGET": "loss"}, "OPD_MASK_TARGET loss does nothing with BACKEND=local"),
        ({"EVAL_INTERVAL": "5"}, "EVAL_INTERVAL 5 needs EVAL_PROMPT_DATA"),
        ({"EVAL_INTERVAL": "5", "EVAL_PROMPT_DATA": "a.jsonl"}, "EVAL_PROMPT_DATA 'a.jsonl' is not pairs of words"),
        ({"EVAL_INTERVAL": "5", "EVAL_PROMPT_DATA": "a a.jsonl"}, "EVAL_INTERVAL 5 needs --rm-type in EXTRA_ARGS"),
        (
            {"EXTRA_ARGS": "--opd-buget-mask tip"},
            "EXTRA_ARGS: unknown flag --opd-buget-mask; did you mean --opd-budget",
        ),
        ({"EXTRA_ARGS": "--opd_loss jsd"}, "EXTRA_ARGS: unknown flag --opd_loss; did you mean --opd-loss?"),
        ({"EXTRA_ARGS": "--rollout-temperature=0.7"}, "EXTRA_ARGS: --rollout-temperature: an SGLang teacher scores"),
        ({"EXTRA_ARGS": "--rollout-top-p 0.9"}, "EXTRA_ARGS: --rollout-top-p: an SGLang teacher scores"),
        ({"EXTRA_ARGS": "--rollout-top-k 20"}, "EXTRA_ARGS: --rollout-top-k: an SGLang teacher scores"),
        (
            {"EXTRA_ARGS": "--opd-budget-ratio=0.2"},
            "EXTRA_ARGS: --opd-budget-ratio: set OPD_BUDGET_RATIO, which is recorded with the run",
        ),
        ({"EXTRA_ARGS": "--opd-token-bank-dir /b"}, "EXTRA_ARGS: --opd-token-bank-dir: each run has its own"),
        ({"EXTRA_ARGS": "--opd-kl-coef 2"}, "EXTRA_ARGS: --opd-kl-coef: set OPD_KL_COEF"),
        ({"EXTRA_ARGS": "--opd-type megatron"}, "EXTRA_ARGS: --opd-type: the launchers run slime's --opd-type sglang"),
        ({"EXTRA_ARGS": "--note x --seed 3"}, "EXTRA_ARGS: --seed: set SEED, which is recorded with the run"),
        ({"EXTRA_ARGS": "--load /c"}, "EXTRA_ARGS: --load: each run has its own, checkpoints/ in its folder"),
        ({"MODELS_DIR": "/nowhere"}, "MODELS_DIR '/nowhere': there is no such folder"),
        ({"METHOD": "tip"}, "METHOD 'tip' is not a setting of a suite: set METHOD_LIST"),
        ({"EVAL_PROMPT_DATA": "aime a.jsonl"}, "EVAL_PROMPT_DATA 'aime a.jsonl' does nothing without EVAL_INTERVAL"),
        ({"BASELINE_METRICS": "/b"}, "BASELINE_METRICS '/b' does nothing without COMMON_CONTEXT"),
        ({"PAIR": ""}, "not set: STUDENT_HF, STUDENT_TORCH_DIST"),
    ],
)
def test_a_mistake_is_named(refused, more, message):
    assert message in refused(**more)


def test_a_checkout_without_the_patch_is_refused(refused, slime_dir):
    (slime_dir / "train_opd.py").unlink()
    assert "has no patch, `python tools/install_patch.py apply` installs it" in refused()
    (slime_dir / "train.py").unlink()
    assert "is no slime checkout: there is no train.py" in refused()


def test_a_mistake_is_one_line_and_exit_code_2_and_nothing_is_written(prepare, tmp_path):
    code, out, error = prepare(METHOD_LIST="tipp")
    assert (code, out) == (2, "")
    assert error == "run_plan: error: METHOD_LIST: 'tipp': unknown method 'tipp'; did you mean tip?\n"
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(prepare, tmp_path):
    (tmp_path / "out").touch()
    code, _, error = prepare()
    assert code == 1 and error.startswith("run_plan: error: ") and str(tmp_path / "out") in error


def test_fixed_contexts_need_a_teacher_that_can_score_them(environment, refused):
    more = {"PAIR": "", "STUDENT_HF": "a/Qwen3-1.7B", "STUDENT_MODEL_SCRIPT": "qwen3-1.7B", "TEACHER_URL": "http://a:1"}
    assert "needs TEACHER_MODEL, which scores it" in refused(**more, COMMON_CONTEXT=environment["PROMPT_DATA"])


def test_a_full_disk_is_an_error_of_one_line(prepare, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("run_plan.plan_files.write_text", full)
    assert prepare() == (1, "", "run_plan: error: No space left on device\n")


def test_a_ratio_of_the_environment_is_for_entries_without_one(planned):
    runs = planned(METHOD_LIST="tip random:0.3 none", OPD_BUDGET_RATIO="0.2").runs
    assert [run.entry.ratio for run in runs] == ["0.20", "0.30", "1.00"]


def test_a_mask_alone_is_a_suite_of_one_run(environment, planned):
    del environment["METHOD_LIST"]
    (run,) = planned(OPD_BUDGET_MASK="dlearn", OPD_BUDGET_RATIO="0.2").runs
    assert run.name == "teachability-0.20-seed42"
    assert len(planned().runs) == 5


def test_models_are_taken_from_the_folder_of_models(planned, tmp_path):
    models = tmp_path / "models"
    (models / "Qwen" / "Qwen3-4B").mkdir(parents=True)
    (models / "Qwen3-1.7B").mkdir()
    v = planned().variables
    assert v["TEACHER_MODEL"] == str(models / "Qwen" / "Qwen3-4B")
    assert v["STUDENT_HF"] == str(models / "Qwen3-1.7B")
    assert v["STUDENT_TORCH_DIST"] == str(models / "Qwen3-1.7B_torch_dist")
    (models / "other").mkdir()
    assert planned(STUDENT_TORCH_DIST="other").variables["STUDENT_TORCH_DIST"] == str(models / "other")


def test_a_dry_run_writes_elsewhere_with_the_suite_s_own_paths(prepare, tmp_path):
    code, out, _ = prepare("--suite-dir", tmp_path / "plan", "--dry-run", PROMPT_DATA="/not/there/yet.jsonl")
    assert code == 0 and out.startswith(RUN) and not (tmp_path / "out").exists()
    saved = sourced(tmp_path / "plan" / "runs" / RUN / "settings.env", "RUN_DIR", "SUITE_DIR")
    assert saved["RUN_DIR"] == str(tmp_path / "out" / "suite" / "runs" / RUN)
    assert prepare("--dry-run")[0] == 2


def test_a_teacher_alone_needs_its_model_alone(prepare, environment, tmp_path):
    environment.clear()
    code, out, error = prepare(
        "--suite-dir", tmp_path / "t", "--teacher-only", TEACHER_MODEL="a/b", METHOD_LIST="none:1:3"
    )
    assert (code, out, error) == (0, "pure_opd-1.00-seed42\n", "")
    folder = tmp_path / "t" / "runs" / "pure_opd-1.00-seed42"
    assert sourced(folder / "settings.env", "TEACHER_PORTS", "TEACHER_REPLICA_GPUS") == {
        "TEACHER_PORTS": "14144",
        "TEACHER_REPLICA_GPUS": "0",
    }
    assert "not set: TEACHER_MODEL" in prepare("--suite-dir", tmp_path / "t", "--teacher-only")[2]


def test_the_embedded_engine_gets_its_own_flags_alone(prepare, environment, tmp_path):
    environment.clear()
    prepare("--suite-dir", tmp_path / "s", BACKEND="local", METHOD_LIST="tip:0.2", OPD_SCORE_VARIANT="released")
    run = tmp_path / "s" / "runs" / "tip-0.20-seed42"
    words = (run / "opd_args").read_text().split("\n")[:-1]
    engine = Path(__file__).parents[3] / "launch" / "local_engine"
    leave_out = re.search(r"_FOR_EACH_RUN = (\(.*?\))", (engine / "cli.py").read_text())[1]
    parser = argparse.ArgumentParser()
    add_arguments(parser, leave_out=ast.literal_eval(leave_out))
    parsed = parser.parse_args(words)
    assert (parsed.opd_score_variant, parsed.opd_topk_metrics_k) == ("released", 16)
    saved = sourced(run / "settings.env", "LOCAL_STEPS", "NUM_ROLLOUT", "INPUT_KEY")
    steps = re.search(r"^    steps: int = ([0-9]+)$", (engine / "defaults.py").read_text(), flags=re.MULTILINE)[1]
    assert saved == {"LOCAL_STEPS": steps, "NUM_ROLLOUT": steps, "INPUT_KEY": ""}


@pytest.fixture
def begun(prepare, tmp_path):
    """The folder of a run that has begun."""
    prepare()
    folder = tmp_path / "out" / "suite" / "runs" / RUN
    (folder / "state.tsv").write_text("teacher\tstart\t1\t\nteacher\tok\t2\t\ntrain\tstart\t3\t\n")
    return folder


def test_a_begun_run_refuses_what_changes_its_results(prepare, begun):
    before = (begun / "settings.env").read_bytes()
    for more, old, new in (
        ({"LR": "1e-5"}, "1e-6", "1e-5"),
        ({"OPD_SCORE_VARIANT": "released"}, "paper", "released"),
        ({"ROLLOUT_MAX_RESPONSE_LEN": "65"}, "64", "65"),
        ({"NUM_ROLLOUT": "49"}, "50", "49"),
        ({"TEACHER_MODEL": "other/teacher"}, "Qwen/Qwen3-4B", "other/teacher"),
        ({"EXTRA_ARGS": "--adam-beta2 0.95"}, "", "--adam-beta2 0.95"),
    ):
        (name,) = more
        code, _, error = prepare(**more)
        message = (
            f"{name} of the begun run {RUN} is '{old}' in {begun}, and '{new}' here; keep it, or choose another TAG"
        )
        assert (code, error) == (2, f"run_plan: error: {message}\n")
    assert (begun / "settings.env").read_bytes() == before


def test_a_begun_run_compares_numbers_by_value(prepare, begun):
    assert prepare(LR="0.000001", OPD_KL_COEF="1", OPD_TEACHER_TIMEOUT="600")[0] == 0
    assert sourced(begun / "settings.env", "LR") == {"LR": "0.000001"}
    assert prepare(LR="0.0000011")[0] == 2


def test_a_begun_run_keeps_a_teacher_that_its_address_alone_names(prepare, environment, tmp_path):
    environment |= {"PAIR": "", "STUDENT_HF": "a/Qwen3-1.7B", "STUDENT_MODEL_SCRIPT": "qwen3-1.7B"}
    assert prepare(TEACHER_URL="http://a:1") == (0, f"{RUN}\npure_opd-1.00-seed42\n", "")
    (tmp_path / "out" / "suite" / "runs" / RUN / "state.tsv").write_text("train\tstart\t3\t\n")
    assert f"TEACHER_URL of the begun run {RUN} is 'http://a:1'" in prepare(TEACHER_URL="http://b:1")[2]
    assert prepare(TEACHER_URL="http://a:1")[0] == 0


def test_a_begun_run_whose_teacher_has_a_name_may_find_it_elsewhere(prepare, begun):
    assert prepare(TEACHER_URL="http://b:1")[0] == 0


def test_a_begun_run_goes_on_with_what_does_not(prepare, begun):
    more = {
        "TEACHER_GPU": "5",
        "RAY_GPUS": "6,7",
        "TEACHER_PORT": "15000",
        "METHOD_LIST": "random:0.1:1 teachability:0.1:90",
        "TEACHER_WAIT": "5",
        "SAVE_INTERVAL": "5",
        "NUM_ROLLOUT": "60",
        "OPD_TEACHER_CONCURRENCY": "8",
        "LOG_DIR": "/somewhere",
    }
    assert prepare(**more)[0] == 0
    assert sourced(begun / "settings.env", "TEACHER_PORT", "NUM_ROLLOUT") == {
        "TEACHER_PORT": "15090",
        "NUM_ROLLOUT": "60",
    }


def test_more_rollouts_are_refused_where_the_learning_rate_follows_their_number(prepare, tmp_path):
    words = {"EXTRA_ARGS": "--lr-decay-style cosine"}
    prepare(**words)
    folder = tmp_path / "out" / "suite" / "runs" / RUN
    (folder / "state.tsv").write_text("train\tstart\t3\t\n")
    assert "NUM_ROLLOUT of the begun run" in prepare(**words, NUM_ROLLOUT="60")[2]


def test_a_trained_run_takes_no_more_rollouts_and_a_torn_line_does_not_count(prepare, begun):
    with (begun / "state.tsv").open("a") as state:
        state.write("train\tok\t9")
    assert prepare(NUM_ROLLOUT="60")[0] == 0
    with (begun / "state.tsv").open("a") as state:
        state.write("\t\nmerge\tstart\t10\t\n")
    assert prepare(NUM_ROLLOUT="60")[0] == 0
    error = prepare(NUM_ROLLOUT="70")[2]
    assert f"NUM_ROLLOUT of the begun run {RUN} is '60'" in error and "its training has ended, and would not" in error
    with (begun / "state.tsv").open("a") as state:
        state.write("done\tok\t11\t\n")
    assert "NUM_ROLLOUT of the finished run" in prepare(NUM_ROLLOUT="70")[2]


def test_a_training_that_failed_after_it_had_ended_well_takes_more_rollouts(prepare, begun):
    with (begun / "state.tsv").open("a") as state:
        state.write("train\tok\t9\t\ntrain\tfail\t10\t\n")
    assert prepare(NUM_ROLLOUT="60")[0] == 0


def test_a_run_that_has_not_begun_takes_any_setting(prepare, tmp_path):
    prepare()
    assert prepare(LR="1e-5")[0] == 0
    assert sourced(tmp_path / "out" / "suite" / "runs" / RUN / "settings.env", "LR") == {"LR": "1e-5"}


def test_a_begun_run_without_its_settings_says_so(prepare, begun):
    (begun / "settings.json").unlink()
    assert prepare()[2] == f"run_plan: error: {begun} has no settings.json: `run_plan prepare` writes it\n"


def test_the_command_runs_from_a_folder_whose_name_is_awkward(environment, tmp_path):
    root = Path(__file__).parents[3]
    folder = tmp_path / "a 'b' \"c\" ü $x"
    folder.mkdir()
    shutil.copy(environment["PROMPT_DATA"], folder / "p.jsonl")
    more = {
        "PYTHONPATH": f"{root / 'launch'}:{root / 'slime_patch'}",
        "OUTPUT_ROOT": str(folder),
        "PROMPT_DATA": "p.jsonl",
    }
    done = subprocess.run(
        [sys.executable, "-m", "run_plan", "prepare"],
        cwd=folder,
        env=environment | more | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    settings_file = folder / "suite" / "runs" / RUN / "settings.env"
    assert sourced(settings_file, "PROMPT_DATA") == {"PROMPT_DATA": str(folder / "p.jsonl")}


def test_the_suite_s_folder_is_known_without_loading_torch(tmp_path):
    root = Path(__file__).parents[3]
    code = "import sys; from run_plan.cli import main; main(['suite-dir']); assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{root / 'launch'}:{root / 'slime_patch'}", "PAIR": "qwen3_8b_to_4b"},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == (f"{tmp_path}/out/qwen3_8b_to_4b\n", "")


def test_zero_leaves_the_flags_of_cuda_graphs_out(planned):
    v = planned(TEACHER_CUDA_GRAPH_MAX_BS="0", SGLANG_CUDA_GRAPH_MAX_BS="0").variables
    assert (v["TEACHER_CUDA_GRAPH_MAX_BS"], v["SGLANG_CUDA_GRAPH_MAX_BS"]) == ("0", "")
    assert planned(SGLANG_CUDA_GRAPH_MAX_BS="20").variables["SGLANG_CUDA_GRAPH_MAX_BS"] == "20"


def test_a_python_with_a_slash_is_absolute_and_its_links_are_kept(planned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "python").symlink_to(sys.executable)
    v = planned(PYTHON="venv/python").variables
    assert v["PYTHON"] == str(tmp_path / "venv" / "python")
    assert v["TRAIN_COMMAND"] == f"{v['PYTHON']} train_opd.py"
    assert planned(PYTHON="python3.11").variables["PYTHON"] == "python3.11"


def test_prompts_in_a_folder_or_an_empty_file_are_refused(refused, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    assert refused(PROMPT_DATA=str(tmp_path)) == f"PROMPT_DATA {str(tmp_path)!r} is a folder, not a file"
    assert "/empty.jsonl' is empty: it has 0 bytes" in refused(PROMPT_DATA=str(tmp_path / "empty.jsonl"))
    assert "/empty.jsonl@[0:9]' is empty" in refused(PROMPT_DATA=f"{tmp_path / 'empty.jsonl'}@[0:9]")


def test_a_file_as_the_folder_of_models_is_refused_in_a_dry_run_too(prepare, environment, tmp_path):
    file = environment["PROMPT_DATA"]
    for words in ((), ("--suite-dir", tmp_path / "plan", "--dry-run")):
        assert f"MODELS_DIR {file!r}: is not a folder" in prepare(*words, MODELS_DIR=file)[2]


def test_an_evaluation_with_data_and_a_judge_is_planned(planned):
    more = {"EVAL_INTERVAL": "5", "EVAL_PROMPT_DATA": "aime 'a b.jsonl'"}
    for judge in ("--rm-type deepscaler", "--rm-type=deepscaler --weight-decay 0.01"):
        assert planned(**more, EXTRA_ARGS=judge)


def test_the_flags_known_in_extra_args_are_train_opd_s():
    text = (Path(__file__).parents[3] / "slime_patch/slime/utils/opd_settings.py").read_text()
    names = ast.literal_eval(re.search(r"^SLIME_OPTIONS = (\(.*?\))$", text, re.M)[1])
    assert tuple("--" + name.replace("_", "-") for name in names) == SLIME_FLAGS


def test_flags_that_are_a_variable_s_are_those_that_the_training_is_given():
    text = (Path(__file__).parents[3] / "launch/lib/train.sh").read_text()
    given = dict(re.findall(r'(--[a-z0-9-]+) "\$\{?([A-Z_]+)', text))
    assert {name: given.get(name) for name in FLAGS_OF_VARIABLES} == FLAGS_OF_VARIABLES


def test_a_sweep_s_variables_are_the_sweep_s_alone(monkeypatch, capsys):
    for name in ("METHOD_LIST", "RUN_LIST", "METHODS", "RATIOS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("METHODS", "tip none")
    monkeypatch.setenv("RATIOS", "0.1")
    assert main(["sweep"]) == 0 and capsys.readouterr().out == "pure_opd:1.00:10 tip:0.10:20\n"
    monkeypatch.setenv("METHOD_LIST", "tip")
    assert main(["sweep"]) == 2
    assert "METHOD_LIST 'tip' with a sweep, which makes METHOD_LIST of METHODS and RATIOS" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["DRY_RUN", "COLOCATE"])
def test_the_suite_s_folder_is_not_told_where_a_switch_is_neither_on_nor_off(name, monkeypatch, capsys):
    for spelling, code in (("0", 0), ("1", 0), ("", 0), ("maybe", 2), ("2", 2)):
        monkeypatch.setenv(name, spelling)
        assert main(["suite-dir"]) == code
    assert f"{name} 'maybe' is not 0 or 1" in capsys.readouterr().err
