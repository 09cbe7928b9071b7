"""The doctor's command and what it looks at without a server: versions, patch, GPUs, ports, disk, paths."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import doctor
from doctor_checks import disk, groups, patch, result, settings, table, versions
from installer_trees import REPLACED, Trees

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for name in ("PAIR", *doctor.VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OUTPUT_ROOT", str(tmp_path / "out"))


@pytest.fixture
def examine(capsys):
    """examine(group, *flags) -> (exit code, {check: finding})."""

    def run(group, *more):
        code = doctor.main(["--only", group, "--json", *more])
        return code, {check["check"]: check for check in json.loads(capsys.readouterr().out)["checks"]}

    return run


def usage_error(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        doctor.main(list(arguments))
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and text.startswith("doctor.py: error: ")
    return text


# the command


def test_the_static_part_needs_nothing_but_python_and_is_quick(tmp_path):
    command = [sys.executable, "-E", "-s", "-S", str(ROOT / "tools" / "doctor.py"), "--static", "--json"]
    environment = {"PATH": "/usr/bin:/bin", "OUTPUT_ROOT": str(tmp_path)}
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert time.monotonic() - start < 5
    assert done.returncode == 1 and not done.stderr
    checks = {check["check"]: check for check in json.loads(done.stdout)["checks"]}
    for package in ("torch", "sglang", "transformers", "ray", "aiohttp", "pyarrow"):
        assert checks[package]["status"] == "fail" and checks[package]["found"] == "not installed"
    assert {check["group"] for check in checks.values()} == set(groups.GROUPS)
    assert all(check["found"] for check in checks.values())


def test_a_missing_transformers_is_a_finding_of_the_tokenizers(tmp_path):
    for name in ("student", "teacher"):
        model(tmp_path / name)
    command = [
        sys.executable,
        "-E",
        "-s",
        "-S",
        str(ROOT / "tools" / "doctor.py"),
        "--static",
        "--json",
        "--only",
        "tokenizers",
    ]
    more = ["--student-hf", str(tmp_path / "student"), "--teacher-model", str(tmp_path / "teacher")]
    done = subprocess.run([*command, *more], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    (check,) = json.loads(done.stdout)["checks"]
    assert done.returncode == 0 and check["status"] == "skipped" and "transformers" in check["found"]


@pytest.mark.parametrize("status, plain, strict", [("pass", 0, 0), ("skipped", 0, 0), ("warn", 0, 1), ("fail", 1, 1)])
def test_the_exit_code_is_that_of_the_worst_finding(monkeypatch, capsys, status, plain, strict):
    found = result.Result("check", status, "found", "" if status == "pass" else "do something")
    monkeypatch.setitem(groups.GROUPS, "disk", lambda settings: iter([found]))
    assert doctor.main(["--only", "disk"]) == plain
    assert f"1 {status}" in capsys.readouterr().out
    assert doctor.main(["--only", "disk", "--strict"]) == strict
    capsys.readouterr()
    assert doctor.main(["--only", "disk", "--strict", "--json"]) == strict
    assert json.loads(capsys.readouterr().out)["exit_code"] == strict


def test_a_finding_that_is_no_pass_has_a_fix():
    with pytest.raises(AssertionError, match="without a fix"):
        result.Result("check", "warn", "found")


def test_a_row_keeps_to_its_width_and_names_the_fix():
    text = table.row(result.failed("ports", "taken " * 40, "move them " * 20), width=100, colour=False)
    assert max(map(len, text.splitlines())) <= 100
    assert text.splitlines()[0].startswith("  fail     ports") and "fix: move them" in text
    assert "\x1b[31mfail" in table.row(result.failed("ports", "a", "b"), width=100, colour=True)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--only", "moon"], "moon"),
        (["--servers", "teacher:1234"], "http://host:port"),
        (["--static", "--servers", "http://a:1"], "--static"),
        (["--num-rollout", "many"], "NUM_ROLLOUT 'many'"),
        (["--num-rollout", "0"], "NUM_ROLLOUT 0"),
        (["--ray-port", "70000"], "RAY_PORT 70000"),
        (["--backend", "jax"], "BACKEND 'jax'"),
        (["--timeout", "0"], "0"),
        (["--settings", "/nowhere/settings.env"], "/nowhere/settings.env"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(capsys, arguments, words):
    assert words in usage_error(capsys, *arguments)


def test_a_flag_goes_before_the_settings_file_before_the_environment_before_the_default(tmp_path, monkeypatch):
    file = tmp_path / "settings.env"
    file.write_text(
        "# planned\nRUN_NAME=tip-0.10-seed1\nNUM_ROLLOUT=30\nSAVE_INTERVAL=3\nPROMPT_DATA='it'\"'\"'s here'\n"
    )
    file.write_text(file.read_text() + "EXTRA_ARGS='--a b'\nEXTRA_ARGS_WORDS=(--a b)\nSEEDS=\n")
    environment = {"NUM_ROLLOUT": "20", "SAVE_INTERVAL": "2", "ROLLOUT_BATCH_SIZE": "8", "SLIME_DIR": ""}
    values, planned = settings.gather({"SAVE_INTERVAL": "4"}, environment, file)
    assert planned
    assert (values["SAVE_INTERVAL"], values["NUM_ROLLOUT"], values["ROLLOUT_BATCH_SIZE"]) == ("4", "30", "8")
    assert values["N_SAMPLES_PER_PROMPT"] == settings.VARIABLES["N_SAMPLES_PER_PROMPT"].default
    assert values["PROMPT_DATA"] == "it's here"
    as_json = tmp_path / "settings.json"
    as_json.write_text(json.dumps({"NUM_ROLLOUT": 30, "PROMPT_DATA": "it's here", "EXTRA_ARGS_WORDS": ["--a", "b"]}))
    assert settings.gather({}, {}, as_json)[0]["NUM_ROLLOUT"] == "30"
    as_json.write_text(json.dumps({"format_version": 1, "variables": {"NUM_ROLLOUT": "30", "RUN_NAME": "a"}}))
    values, planned = settings.gather({}, {}, as_json)
    assert values["NUM_ROLLOUT"] == "30" and planned


@pytest.mark.parametrize("text", ["NUM_ROLLOUT", "A=1 2", "A='unclosed"])
def test_a_settings_file_that_is_none_is_refused_with_its_name(tmp_path, capsys, text):
    file = tmp_path / "settings.env"
    file.write_text(text)
    assert str(file) in usage_error(capsys, "--settings", str(file))


def test_a_reader_who_has_enough_ends_the_table_quietly():
    command = f"{sys.executable} {ROOT / 'tools' / 'doctor.py'} --static --only ports | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout == "ports\n" and not done.stderr


def test_a_pair_file_that_was_not_resolved_is_mentioned(monkeypatch, capsys):
    monkeypatch.setenv("PAIR", "qwen3_4b_to_1.7b")
    doctor.main(["--static", "--only", "gpus"])
    assert "--settings" in capsys.readouterr().err


# versions


def test_the_table_of_versions_agrees_with_what_the_tests_run_on():
    project = (ROOT / "pyproject.toml").read_text()
    known = versions.supported()
    assert known["python"]["oldest"] == re.search(r'requires-python = ">=([\d.]+)"', project)[1]
    assert known["packages"]["torch"]["oldest"] == re.search(r'"torch>=([\d.]+)"', project)[1]
    assert known["packages"]["torch"]["tested"][-1] == re.search(r'"torch==([\d.]+)"', project)[1]
    assert re.search(r'"megatron-core==([\d.]+)"', project)[1] in known["megatron_core"]["tested"]
    makefile = (ROOT / "Makefile").read_text()
    assert known["packages"]["sglang"]["tested"] == re.search(r"SGLANG_VERSIONS \?= (.*)", makefile)[1].split()
    slimes = json.loads((ROOT / "tools" / "slime_versions.json").read_text())["versions"]
    assert known["megatron_lm_commit"].keys() == known["packages"]["sglang"]["image"].keys() == slimes.keys()


@pytest.mark.parametrize(
    "version, status, words",
    [
        ("1.4.2", "pass", "1.4.2"),
        ("1.4.2.1", "pass", "1.4.2.1"),
        ("1.4.20", "warn", "tested are 1.4.2, 1.6"),
        ("1.5", "pass", "as in the image of slime v9"),
        ("2.0rc1", "warn", "tested are 1.4.2, 1.6"),
        ("1.2.9", "fail", "1.3 is the oldest"),
        ("0.10", "fail", "1.3 is the oldest"),
    ],
)
def test_an_unknown_version_warns_of_what_was_tested_and_an_old_one_fails(version, status, words):
    known = {"oldest": "1.3", "tested": ["1.4.2", "1.6"], "image": {"v9": "1.5"}}
    found = versions.judge("package", version, known, "v9")
    assert found.status == status and words in found.found


def megatron(root):
    (root / "megatron" / "core").mkdir(parents=True)
    (root / "megatron" / "training").mkdir()
    info = "MAJOR = 0\nMINOR = 16\nPATCH = 0\nPRE_RELEASE = 'rc0'\n"
    (root / "megatron" / "core" / "package_info.py").write_text(info)
    git = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@x"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)


def test_megatron_is_told_by_its_files_its_commit_and_slimes_patch(tmp_path, examine, monkeypatch):
    checkout, slime = tmp_path / "Megatron", tmp_path / "slime"
    megatron(checkout)
    named = ["--megatron-lm-dir", str(checkout), "--slime-dir", str(slime)]
    _, found = examine("versions", *named)
    assert found["megatron-core"]["found"] == "0.16.0rc0" and found["megatron-core"]["status"] == "pass"
    assert found["Megatron-LM commit"]["status"] == "warn"
    info = checkout / "megatron" / "core" / "package_info.py"
    info.write_text(info.read_text() + "PATCHED = True\n")
    patch_file = slime / "docker" / "patch" / "latest" / "megatron.patch"
    patch_file.parent.mkdir(parents=True)
    patch_file.write_text(subprocess.run(["git", "-C", str(checkout), "diff"], capture_output=True, text=True).stdout)
    _, found = examine("versions", *named)
    assert "with slime's megatron.patch" in found["Megatron-LM commit"]["found"]
    commit = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    monkeypatch.setitem(versions.supported()["megatron_lm_commit"], "v9", commit.strip())
    monkeypatch.setattr(versions, "slime_version", lambda settings: "v9")
    assert examine("versions", *named)[1]["Megatron-LM commit"]["status"] == "pass"
    subprocess.run(["git", "-C", str(checkout), "checkout", "-q", "."], check=True)
    _, found = examine("versions", *named)
    assert found["Megatron-LM commit"]["status"] == "fail" and "without slime's" in found["Megatron-LM commit"]["found"]
    info.write_text(info.read_text().replace("rc0", "rc1"))
    _, found = examine("versions", *named)
    assert (
        found["Megatron-LM commit"]["status"] == "warn"
        and "edits in the places" in found["Megatron-LM commit"]["found"]
    )


def test_what_is_no_megatron_checkout_fails(tmp_path, examine):
    _, found = examine("versions", "--megatron-lm-dir", str(tmp_path))
    assert found["megatron-core"]["status"] == found["Megatron-LM commit"]["status"] == "fail"


# patch


@pytest.fixture
def trees(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    trees = Trees(tmp_path)
    monkeypatch.setattr(patch, "PATCH_DIR", trees.patches["0.1.0"])
    monkeypatch.setattr(patch, "VERSIONS", trees.versions)
    return trees


def state(examine, trees):
    _, found = examine("patch", "--slime-dir", str(trees.slime))
    return {name: (check["status"], check["found"]) for name, check in found.items()}


def test_the_state_of_the_patch_is_told_from_the_installers_records(trees, examine, monkeypatch):
    assert state(examine, trees)["patch"] == ("fail", "not applied")
    assert trees.run("apply")[0] == 0
    found = state(examine, trees)
    assert found["patch"][0] == "pass" and "0.1.0, 4 files, intact" in found["patch"][1]
    assert found["slime"][0] == "warn" and "loss mask only" in found["slime"][1]
    monkeypatch.setattr(patch, "PATCH_DIR", trees.patches["0.2.0"])
    assert state(examine, trees)["patch"][0] == "warn" and "0.2.0 is at hand" in state(examine, trees)["patch"][1]
    monkeypatch.setattr(patch, "PATCH_DIR", trees.patches["0.1.0"])
    (trees.slime / "ta_opd/scores.py").write_text("ENTROPY = 7\n")
    assert (
        state(examine, trees)["patch"][0] == "fail"
        and "ta_opd/scores.py was changed" in state(examine, trees)["patch"][1]
    )
    (trees.slime / ".ta_opd_patch/journal.json").write_text("{}")
    assert state(examine, trees) == {"slime": ("fail", "an installation was interrupted or is going on")}


def test_a_patch_that_was_copied_is_known_and_so_is_an_unknown_slime(trees, examine):
    shutil.copytree(trees.patches["0.1.0"], trees.slime, dirs_exist_ok=True)
    assert state(examine, trees)["patch"][0] == "warn" and "by hand" in state(examine, trees)["patch"][1]
    (trees.slime / "ta_opd/scores.py").unlink()
    assert state(examine, trees)["patch"] == ("fail", "3 of 4 files are there, without a record")
    (trees.slime / "slime/utils/misc.py").write_text("def load(): ...\n")
    assert state(examine, trees)["slime"][0] == "warn" and "not a known slime" in state(examine, trees)["slime"][1]
    assert REPLACED  # the file of slime that the patch replaces is among the four
    shutil.rmtree(trees.slime)
    assert "no such directory" in state(examine, trees)["slime"][1]


# GPUs

SMI = """#!/bin/sh
case "$1" in
  --query-gpu=*) {gpus} ;;
  --query-compute-apps=*) {apps} ;;
esac
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """driver(gpus, apps): an nvidia-smi that prints these lines."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()

    def install(gpus, apps=(), body=None):
        lines = {"gpus": gpus, "apps": apps}
        said = {name: "".join(f'echo "{line}"; ' for line in rows) + ":" for name, rows in lines.items()}
        program.write_text(body or SMI.format(**said))
        program.chmod(0o755)

    return install


def gpu(index, used=4):
    return f"{index}, GPU-{index}abc, NVIDIA H100, 81559, {used}"


def test_gpus_that_are_there_apart_and_free_pass(driver, examine):
    driver([gpu(0), gpu(1), gpu(2, used=900)])
    code, found = examine("gpus", "--teacher-gpu", "GPU-0a", "--ray-gpus", "1,2")
    assert code == 0 and found["GPUs"]["numbers"] == {"gpus": 3}
    assert {name: check["status"] for name, check in found.items() if name != "teacher's memory"} == {
        "GPUs": "pass", "teacher's GPUs": "pass", "Ray's GPUs": "pass", "GPU sets": "pass",
    }  # fmt: skip


@pytest.mark.parametrize(
    "teacher, ray, check, words",
    [
        ("0", "0,1", "GPU sets", "share GPU 0"),
        ("GPU-0abc", "0", "GPU sets", "share GPU 0"),
        ("3", "1", "teacher's GPUs", "names 3; there are 0, 1, 2"),
        ("0", "1,2", "Ray's GPUs", "GPU 2 has 60,000 of 81,559 MiB in use by pid 77 python (59990 MiB)"),
        ("1,GPU-1abc", "2", "teacher's GPUs", "twice"),
        ("0,1", "2", "teacher's memory", "2 GPUs for 1 teachers of 1"),
    ],
)
def test_gpus_that_cannot_be_used_are_named_with_who_holds_them(driver, examine, teacher, ray, check, words):
    driver([gpu(0), gpu(1), gpu(2, used=60000)], ["GPU-2abc, 77, python, 59990"])
    code, found = examine("gpus", "--teacher-gpu", teacher, "--ray-gpus", ray)
    assert code == 1 and found[check]["status"] == "fail" and words in found[check]["found"]


def test_a_slice_of_a_gpu_is_not_looked_at_and_says_so(driver, examine):
    driver([gpu(0), gpu(1)])
    code, found = examine("gpus", "--teacher-gpu", "MIG-5a", "--ray-gpus", "1")
    assert code == 0 and found["teacher's GPUs"]["status"] == "warn" and "MIG-5a" in found["teacher's GPUs"]["found"]
    assert "teacher's memory" not in found


def test_a_busy_gpu_is_right_where_its_server_is_running(driver, examine):
    driver([gpu(0, used=60000), gpu(1)])
    code, found = examine("gpus", "--teacher-gpu", "0", "--ray-gpus", "1", "--teacher-url", "http://a:1")
    assert code == 0 and "as it should be" in found["teacher's GPUs"]["found"]


@pytest.mark.parametrize("size, status", [(10, "pass"), (45, "warn"), (60, "fail")])
def test_a_teacher_larger_than_its_share_of_a_gpu_is_told(driver, examine, tmp_path, size, status):
    driver([gpu(0), gpu(1)])
    teacher = model(tmp_path / "teacher")
    with (teacher / "model.safetensors").open("wb") as file:
        file.truncate(size * 2**30)  # a sparse file
    flags = ["--teacher-gpu", "0", "--ray-gpus", "1", "--teacher-model", str(teacher), "--teacher-mem-fraction", "0.6"]
    assert examine("gpus", *flags)[1]["teacher's memory"]["status"] == status


@pytest.mark.parametrize(
    "body, words",
    [("#!/bin/sh\necho 'driver not loaded'; exit 9\n", "driver not loaded"), ("#!/bin/sh\n:\n", "lists none")],
)
def test_a_driver_that_does_not_work_fails(driver, examine, body, words):
    driver([], body=body)
    code, found = examine("gpus")
    assert code == 1 and words in found["GPUs"]["found"]


def test_no_driver_fails_unless_only_the_static_part_is_asked(examine, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert examine("gpus")[0] == 1
    assert examine("gpus", "--static")[1]["GPUs"]["status"] == "skipped"


# ports


@pytest.fixture
def listener():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_port_that_somebody_listens_on_fails_and_its_run_is_found_by_the_index(examine, listener):
    code, found = examine("ports", "--method-list", "tip:0.1:7 random:0.1", "--ray-port", str(listener - 7))
    assert code == 1 and f"{listener}" in found["RAY_PORT"]["found"].removeprefix("taken: ").split(", ")
    code, found = examine("ports", "--method-list", "tip:0.1:7 random:0.1", "--ray-port", str(listener - 20))
    assert code == 1 and f"{listener}" in found["RAY_PORT"]["found"].removeprefix("taken: ").split(", ")


def test_a_planned_runs_ports_are_final(examine, listener, tmp_path):
    file = tmp_path / "settings.env"
    file.write_text(f"RUN_NAME=tip-0.10-seed1\nTEACHER_NCCL_PORT={listener}\nTEACHER_REPLICAS=1\n")
    code, found = examine("ports", "--settings", str(file))
    assert code == 1 and found["TEACHER_NCCL_PORT"]["found"] == f"taken: {listener}"


def test_a_taken_port_only_warns_where_the_doctor_watches_a_container(examine, listener):
    code, found = examine("ports", "--static", "--method-list", "tip:0.1:0", "--ray-port", str(listener))
    assert code == 0 and found["RAY_PORT"]["status"] == "warn"


@pytest.mark.parametrize(
    "flags, check, words",
    [
        (["--method-list", "tip:0.1:60000"], "RAY_PORT", "above 65535"),
        (["--method-list", "tip:0.1:x"], "port plan", "no whole number"),
        (["--ray-port", "14141"], "port plan", "is both RAY_PORT and TEACHER_PORT"),
        (["--teacher-replicas", "2", "--ray-port", "14641"], "port plan", "14651 is both RAY_PORT and TEACHER_PORT"),
    ],
)
def test_ports_that_cannot_go_together_fail(examine, flags, check, words):
    code, found = examine("ports", *flags)
    assert code == 1 and words in found[check]["found"]


def test_ports_of_servers_and_clusters_that_run_already_are_not_asked_for(examine, listener):
    flags = ["--teacher-url", f"http://127.0.0.1:{listener}", "--ray-address", "http://head:8265"]
    code, found = examine("ports", *flags, "--method-list", "tip:0.1:0", "--teacher-port", str(listener))
    assert code == 0 and {check["status"] for check in found.values()} == {"skipped"}


# disk


def test_an_output_folder_that_can_be_written_is_left_as_it_was(examine, tmp_path):
    code, found = examine("disk")
    assert code == 0 and found["output"]["status"] == "pass" and "will be made" in found["output"]["found"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("root", ["/proc/nowhere", "/dev/null/out"])
def test_an_output_folder_that_cannot_be_written_fails(examine, root):
    code, found = examine("disk", "--output-root", root)
    assert code == 1 and found["output"]["status"] == "fail"


@pytest.mark.parametrize("room, status", [(0.9, "fail"), (1.1, "warn"), (1.3, "pass")])
def test_the_room_is_that_of_all_checkpoints_and_token_banks(examine, tmp_path, monkeypatch, room, status):
    student = model(tmp_path / "student")
    weights = (student / "model.safetensors").stat().st_size
    # 2 entries x 2 seeds; 5 checkpoints of 7 times the weights; 50 rollouts of 4 x 2 x 64 tokens, the table twice.
    need = 4 * (5 * 7 * weights + 50 * 512 * 2 * 108.7)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, int(room * need)))
    flags = ["--student-hf", str(student), "--method-list", "tip:0.1 random:0.1", "--seeds", "1 2"]
    _, found = examine("disk", *flags)
    assert found["disk"]["status"] == status
    assert found["disk"]["numbers"]["needed_bytes"] == pytest.approx(need)
    assert examine("disk", "--static", *flags)[0] == 0


# paths


def model(path, weights=1000):
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "qwen3", "vocab_size": 512, "max_position_embeddings": 2048}')
    (path / "model.safetensors").write_bytes(b"\0" * weights)
    (path / "tokenizer.json").write_text("{}")
    return path


def torch_dist(path, iteration="release", folder="release"):
    (path / folder).mkdir(parents=True)
    (path / "latest_checkpointed_iteration.txt").write_text(iteration)
    (path / folder / "__0_0.distcp").write_bytes(b"x")
    (path / folder / ".metadata").write_bytes(b"x")
    return path


def paths(examine, tmp_path, *more):
    names = ("--student-hf", "--student-torch-dist", "--teacher-model")
    values = (tmp_path / "student", tmp_path / "dist", tmp_path / "teacher")
    named = [text for pair in zip(names, map(str, values), strict=True) for text in pair]
    return examine("paths", *named, *more)


def test_models_and_checkpoints_that_are_whole_pass(examine, tmp_path):
    model(tmp_path / "student"), model(tmp_path / "teacher"), torch_dist(tmp_path / "dist")
    code, found = paths(examine, tmp_path)
    assert code == 0 and {check["status"] for check in found.values()} == {"pass"}
    torch_dist(tmp_path / "dist2", "40", "iter_0000040")
    _, found = paths(examine, tmp_path, "--student-torch-dist", str(tmp_path / "dist2"))
    assert found["student, torch_dist"]["status"] == "pass"


@pytest.mark.parametrize(
    "damage, check, words",
    [
        (lambda root: shutil.rmtree(root / "teacher"), "teacher", "no directory"),
        (lambda root: (root / "student/config.json").unlink(), "student", "lacks config.json"),
        (lambda root: (root / "student/config.json").write_text("{"), "student", "no JSON"),
        (lambda root: (root / "student/model.safetensors").unlink(), "student", "lacks weights"),
        (lambda root: (root / "student/tokenizer.json").unlink(), "student", "lacks a tokenizer"),
        (
            lambda root: (root / "student/model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}'
            ),
            "student",
            "lacks 1 of 2 weight files, model-2.safetensors",
        ),
        (
            lambda root: (root / "dist/latest_checkpointed_iteration.txt").unlink(),
            "student, torch_dist",
            "has no latest",
        ),
        (
            lambda root: (root / "dist/latest_checkpointed_iteration.txt").write_text("40"),
            "student, torch_dist",
            "iter_0000040 holds no",
        ),
        (
            lambda root: (root / "dist/latest_checkpointed_iteration.txt").write_text("soon"),
            "student, torch_dist",
            "no iteration",
        ),
        (lambda root: (root / "dist/release/.metadata").unlink(), "student, torch_dist", "not written to the end"),
    ],
)
def test_what_a_path_lacks_is_named(examine, tmp_path, damage, check, words):
    model(tmp_path / "student"), model(tmp_path / "teacher"), torch_dist(tmp_path / "dist")
    damage(tmp_path)
    code, found = paths(examine, tmp_path)
    assert code == 1 and found[check]["status"] == "fail" and words in found[check]["found"]


def test_a_name_on_the_hub_warns_and_an_unset_one_warns_unless_static(examine, tmp_path):
    code, found = examine("paths", "--student-hf", "Qwen/Qwen3-1.7B", "--teacher-url", "http://a:1")
    assert code == 0 and found["student"]["status"] == "warn" and "hub" in found["student"]["found"]
    assert found["teacher"]["status"] == "skipped" and found["student, torch_dist"]["status"] == "warn"
    assert examine("paths", "--static")[1]["student"]["status"] == "skipped"


def test_a_model_is_found_in_the_folder_of_models_by_its_last_part(examine, tmp_path):
    model(tmp_path / "Qwen3-1.7B")
    _, found = examine("paths", "--student-hf", "Qwen/Qwen3-1.7B", "--models-dir", str(tmp_path))
    assert found["student"]["status"] == "pass"


def test_the_embedded_engine_needs_no_models_gpus_ports_or_servers(examine):
    for group in ("paths", "gpus", "ports", "servers", "tokenizers", "patch"):
        code, found = examine(group, "--backend", "local")
        assert code == 0 and {check["status"] for check in found.values()} == {"skipped"}
