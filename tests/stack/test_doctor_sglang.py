"""The doctor in front of a real SGLang server on a CPU, whose weights are random and whose lists are right."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import doctor

from .sglang.server import SglangServer
from .sglang.tiny_models import VOCABULARY


def examine(sglang, tiny_models, capsys, *more):
    """(exit code, {check: finding}) of the groups that ask the teacher and read the models."""
    code = doctor.main(
        [
            *("--only", "servers", "tokenizers", "--json", "--servers", sglang.url, "--concurrency", "8"),
            *("--student-hf", str(tiny_models["student"]), "--teacher-model", str(tiny_models["teacher"])),
            *("--apply-chat-template", "0", *more),
        ]
    )
    checks = {check["check"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    return code, checks


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in doctor.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def checks(sglang, tiny_models, capsys):
    code, checks = examine(sglang, tiny_models, capsys)
    assert code == 0, [check for check in checks.values() if check["status"] == "fail"]
    return checks


def test_a_teacher_that_works_passes_and_its_random_weights_are_noticed(checks):
    assert {name for name, check in checks.items() if check["status"] != "pass"} == {"knows text"}
    assert checks["knows text"]["status"] == "warn" and "random" in checks["knows text"]["found"]
    assert checks["reachable"]["numbers"]["vocabulary"] == VOCABULARY
    assert abs(checks["teacher against itself"]["numbers"]["kl_nats"]) < 0.01
    assert checks["repeats"]["numbers"]["alone_max"] <= 1 / 16
    assert checks["temperature"]["numbers"]["nats"] <= 1 / 16
    assert checks["prefix cache"]["numbers"]["cached"] >= 500
    assert checks["speed"]["numbers"]["tokens_per_second"] > 0


def test_a_student_with_another_tokenizer_is_found_by_asking_the_server(sglang, tiny_models, capsys, tmp_path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny_models["student"] / "tokenizer.json"))
    other = json.loads(tokenizer.to_str())
    vocabulary = other["model"]["vocab"]
    vocabulary["e"], vocabulary["a"] = vocabulary["a"], vocabulary["e"]
    student = tmp_path / "student"
    student.mkdir()
    for file in tiny_models["student"].iterdir():
        (student / file.name).write_bytes(file.read_bytes())
    (student / "tokenizer.json").write_text(json.dumps(other))
    code, checks = examine(sglang, {**tiny_models, "student": student}, capsys)
    assert code == 1
    assert checks["reads text"]["status"] == checks["token ids"]["status"] == "fail"


def test_a_real_server_of_a_uniform_model_raises_an_alarm(sglang, tiny_models, capsys, tmp_path):
    import torch
    import transformers

    model = transformers.Qwen3ForCausalLM.from_pretrained(tiny_models["teacher"], dtype=torch.bfloat16)
    torch.nn.init.zeros_(model.lm_head.weight)
    shutil.copytree(tiny_models["teacher"], tmp_path / "teacher")
    model.save_pretrained(tmp_path / "teacher")
    server = SglangServer(sglang.python, tmp_path / "teacher", tmp_path / "server.log")
    server.launch()
    try:
        server.wait_until_ready()
        code, checks = examine(server, {**tiny_models, "teacher": tmp_path / "teacher"}, capsys)
    finally:
        server.kill()
    assert code == 1
    assert {name for name, check in checks.items() if check["status"] == "fail"} == {"not uniform"}
    assert checks["not uniform"]["numbers"]["share_of_uniform"] == pytest.approx(1, abs=1e-3)
