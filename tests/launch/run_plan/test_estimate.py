"""The estimate against a hand computation, and what it says where it does not know."""

import importlib.util
import re
from pathlib import Path

import pytest
from run_plan.cli import main
from run_plan.estimate import estimate_text
from run_plan.estimate_traffic import AN_ENTRY, SAMPLED_A_TOKEN, SENT_A_TOKEN, received

ROOT = Path(__file__).parents[3]


def rows(text):
    """`name: rest` lines by name."""
    return dict(line.strip().split(": ", 1) for line in text.splitlines() if ": " in line)


@pytest.fixture
def estimated(planned):
    return lambda **more: rows(estimate_text(planned(METHOD_LIST="teachability:0.1:20", **more).runs[0].variables))


def gib(count):
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def test_one_pair_by_hand(estimated):
    more = {
        "STUDENT_MODEL_SCRIPT": "qwen3-4B",
        "ACTOR_NUM_GPUS_PER_NODE": "4",
        "RAY_GPUS": "1,2,3,4,5",
        "TENSOR_PARALLEL": "2",
        "ROLLOUT_BATCH_SIZE": "64",
        "N_SAMPLES_PER_PROMPT": "8",
        "GLOBAL_BATCH_SIZE": "128",
        "ROLLOUT_MAX_RESPONSE_LEN": "8192",
        "MAX_TOKENS_PER_GPU": "4096",
        "NUM_ROLLOUT": "95",
    }
    found = estimated(**more)

    # Qwen3-4B: 36 layers of width 2560, 32 heads and 8 groups of 128, MLP 9728, 151,936 tokens, tied embeddings.
    attention = 2560 * 32 * 128 + 2 * (2560 * 8 * 128) + 32 * 128 * 2560
    mlp = 3 * 2560 * 9728
    norms = 2 * 2560 + 2 * 128
    whole = 36 * (attention + mlp + norms) + 2560 + 151936 * 2560
    assert whole == 4_022_468_096
    # Half of everything but the norms; the vocabulary padded to 152,064, a multiple of 256.
    half = 36 * ((attention + mlp) // 2 + norms) + 2560 + 152064 // 2 * 2560
    assert found["student"] == f"{whole:,} parameters (qwen3-4B), {half:,} on the fullest GPU"
    sizes = {
        "bf16 weights": 2 * half,
        "float32 gradients": 4 * half,
        "float32 copy and Adam over 2 ranks": 12 * half / 2,
        # A sample is longer than MAX_TOKENS_PER_GPU: 1024 + 8192 tokens, spread over 2 sequence-parallel ranks.
        "inputs of the layers, 9,216 tokens": 2 * (9216 / 2) * 2560 * 36,
        "logits, 20 bytes each, 9,216 tokens": 20 * 9216 * 152064 / 2,
    }
    for name, count in sizes.items():
        assert found[name] == gib(count), name
    assert found["together"] == gib(sum(sizes.values()))
    assert found["training"] == "1 x 4 (machines x GPUs) = data 2 x tensor 2 x pipeline 1 x context 1"

    tokens = 64 * 8 * 8192
    assert found["the run"] == f"95 rollouts, 380 steps, at most {95 * tokens:,} response tokens"
    assert found["sent"].startswith(f"at most {6.3 * 512 * 9216 / 2**20:.1f} MiB")
    assert found["received, base64 (SGLang 0.5.23)"].startswith(
        f"at most {gib(tokens * (33.1 + 16 * 32 / 3))}, 204 bytes"
    )
    assert found["received, nested (every SGLang)"].startswith(f"at most {gib(tokens * (33.1 + 16 * 32.6))}, 555 bytes")
    assert found["token bank"].startswith(
        f"at most {tokens * 108.7 / 2**20:.1f} MiB a rollout, {gib(95 * tokens * 108.7)}"
    )
    assert found["checkpoints"].startswith(f"10 of {gib(14 * whole)}, {10 * 14 * whole / 2**30:.1f} GiB in all")
    assert found["carried to the trainer"].startswith(f"8 bytes a response token, at most {8 * tokens / 2**20:.1f} MiB")
    assert found["sampling"].startswith("1, 1 an engine") or found["sampling"].startswith(gib(2 * whole))


def test_gpus_and_ports_are_listed(planned):
    more = {"TEACHER_REPLICAS": "2", "TEACHER_GPU": "0,7", "ACTOR_NUM_NODES": "2"}
    more |= {"RAY_NODE_IP": "10.0.0.1", "TEACHER_HOST": "10.0.0.1", "WORKER_NUM_GPUS": "2"}
    text = estimate_text(planned(METHOD_LIST="tip:0.1:20", **more).runs[0].variables)
    for line in (
        "teacher 0: 0",
        "teacher 1: 7",
        "Ray: 1,2 of this machine, and those of 1 more machines that join 10.0.0.1:26399",
        "TEACHER_PORT 14161 14661",
        "RAY_METRICS_EXPORT_PORT 29100",
    ):
        assert f"    {line}\n" in text


def test_a_micro_batch_has_no_more_tokens_than_a_step(estimated):
    # 8 samples of 1,024 + 64 tokens.
    assert "inputs of the layers, 8,704 tokens" in estimated(MAX_TOKENS_PER_GPU="100000")
    assert "inputs of the layers, 1,088 tokens" in estimated(MAX_TOKENS_PER_GPU="0")


def test_a_loss_of_whole_distributions_keeps_and_carries_its_own(estimated):
    found = estimated(OPD_LOSS="jsd", OPD_LOSS_TOP_K="64")
    assert "logits, 4.2 bytes each, 4,096 tokens" in found
    assert found["carried to the trainer"].startswith("520 bytes a response token")
    assert "at K = 64" in found["received, nested (every SGLang)"]
    assert "logits, 20 bytes each, 4,096 tokens" in estimated(OPD_LOSS="jsd", OPD_ADD_SAMPLED_TOKEN="1")


def test_what_is_not_known_is_said(estimated, slime_dir):
    (slime_dir / "scripts" / "models" / "experts.sh").write_text("MODEL_ARGS=(\n  --num-experts 8\n)\n")
    found = estimated(STUDENT_MODEL_SCRIPT="experts", ROLLOUT_MAX_PROMPT_LEN="", OPD_TOKEN_BANK_FORMAT="csv")
    assert found["not known"] == "what --num-experts means for the number of parameters is not known"
    assert "size is not known" in found["checkpoints"]
    assert found["token bank"] == "the size of csv is not known"
    found = estimated(TEACHER_MODEL="somebody/unheard-of")
    assert found["teacher"].startswith("not known: somebody/unheard-of is no folder with safetensors")
    found = estimated(PAIR="", TEACHER_MODEL="a/b", STUDENT_HF="c/Qwen3-1.7B", STUDENT_MODEL_SCRIPT="qwen3-1.7B")
    assert "whose length is not known (ROLLOUT_MAX_PROMPT_LEN)" in found["sent"]


def test_a_teacher_in_a_folder_is_as_large_as_its_files(estimated, tmp_path):
    teacher = tmp_path / "models" / "Qwen3-4B"
    teacher.mkdir()
    for name in ("a.safetensors", "b.safetensors"):
        with (teacher / name).open("wb") as file:
            file.truncate(3 * 2**30)
    found = estimated(TEACHER_TP="2", TEACHER_GPU="0,3")
    wanted = "3.0 GiB of weights a GPU; TEACHER_MEM_FRACTION 0.6 needs a GPU of more than 5.0 GiB (2 safetensors files"
    assert found["teacher"].startswith(wanted)


def test_exact_c_and_raw_lists_are_counted_as_far_as_known(estimated):
    found = estimated(OPD_EXACT_CMASS="1", OPD_TOKEN_BANK_RAW_TOPK="1")
    assert "at most 4,096" in found["exact C"]
    assert found["token bank"].startswith(f"at most {512 * (108.7 + 256) / 2**10:.1f} KiB")


def test_the_embedded_engine_is_not_estimated(planned):
    (run,) = planned(BACKEND="local", METHOD_LIST="tip").runs
    assert "nothing is estimated" in estimate_text(run.variables)


def test_the_sizes_on_the_wire_are_those_of_the_benchmark_s_bodies():
    spec = importlib.util.spec_from_file_location("teacher_client_bench", ROOT / "benchmarks" / "teacher_client.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    assert len(bench.answer(2048, 0, "nested")) / 2048 == pytest.approx(SAMPLED_A_TOKEN, rel=0.01)
    for wire in AN_ENTRY:
        for k in (16, 64):
            assert len(bench.answer(2048, k, wire)) == pytest.approx(received(2048, k, wire), rel=0.01)
    ids = ",".join(map(str, bench.tokens_of(2048)))
    assert len(ids) / (2048 + bench.PROMPT) == pytest.approx(SENT_A_TOKEN, rel=0.01)


def test_the_sizes_of_the_documents_are_the_ones_used():
    from run_plan.estimate_files import BANK_ROW
    from run_plan.training_memory import LOGITS, LOGITS_OF_OURS

    assert f"table on disk\n{BANK_ROW} bytes a token" in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    bf16 = page[page.index("## bf16 logits") :]
    peak = re.search(r"\| entropy_logprob_grad \| slime \|[^|]*\|[^|]*\|[^|]*\| ([0-9.]+) \|", bf16)[1]
    assert 2 * (1 + float(peak)) == LOGITS
    greatest = re.search(r"extra peak, every divergence \|[^|]*\|[^|]*\| [0-9.]+ to ([0-9.]+) \|", page)[1]
    assert 2 * (1 + float(greatest)) == LOGITS_OF_OURS


def test_the_command_prints_several_runs(environment, monkeypatch, capsys, tmp_path):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["prepare"]) == 0
    folders = sorted(str(p) for p in (tmp_path / "out" / "suite" / "runs").iterdir())
    capsys.readouterr()
    assert main(["estimate", *folders]) == 0
    text = capsys.readouterr().out
    assert text.startswith("pure_opd-1.00-seed42\n") and "\n\nteachability-0.10-seed42\n" in text
    assert main(["estimate", str(tmp_path)]) == 2
    assert "has no settings.json" in capsys.readouterr().err
