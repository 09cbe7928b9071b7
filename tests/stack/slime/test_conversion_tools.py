"""Our conversion commands around slime's real converters on a CPU: there and back, and what a training saved."""

import shlex
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from ..sglang.tiny_models import write_tiny_models
from . import loop
from .checkouts import ROOT
from .environment import cpu_environment, interpreter

LEARNING_RATE, STEPS = 1e-4, 2
BF16_STEP = 2**-7  # of a weight: its last bit, twice
NOT_THE_CONVERTERS = ("--qkv-format bshd ", "--micro-batch-size 1", "--no-check-for-nan-in-loss-and-grad ")
CPU_FLAGS = shlex.join(loop.CPU_FLAGS)
for flags in NOT_THE_CONVERTERS:
    CPU_FLAGS = CPU_FLAGS.replace(flags, "")
CPU_FLAGS = [*CPU_FLAGS.split(), "--bf16"]


@pytest.fixture(scope="session")
def student(tmp_path_factory):
    return write_tiny_models(tmp_path_factory.mktemp("models"))["student"]


def run(checkout, megatron, tool, *arguments):
    """One of our commands; returns what it printed last."""
    command = [interpreter(), "-W", "ignore", str(ROOT / "tools" / tool), "--slime-dir", str(checkout.path)]
    command += ["--megatron-dir", str(megatron), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=cpu_environment(checkout), timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def weights(folder):
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def test_a_model_comes_back_from_torch_dist_bit_for_bit(pristine, megatron_dir, student, tmp_path, record):
    if not pristine.has("load_hf_weights", "tools/convert_hf_to_torch_dist.py"):
        pytest.skip(f"{pristine.name} converts through mbridge, which is not part of the CPU stack")
    script, megatron, back = tmp_path / "tiny model.sh", tmp_path / "torch_dist", tmp_path / "back"
    script.write_text(f"MODEL_ARGS=({shlex.join(loop.MODEL_FLAGS)})\n", encoding="utf-8")
    there = ["--hf-checkpoint", student, "--output-dir", megatron, "--model-script", script, "--", *CPU_FLAGS]
    assert run(pristine, megatron_dir, "convert_hf_to_torch_dist.py", *there).endswith("(release)")
    places = ["--checkpoint-root", megatron, "--origin-hf-dir", student]
    for parallel in ([], ["--parallel"]):
        arguments = [*places, "--output-dir", back, "--force", *parallel]
        assert "from release: 25 tensors" in run(
            pristine, megatron_dir, "convert_megatron_checkpoint_to_hf.py", *arguments
        )
        found, wanted = weights(back), weights(student)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
        assert (back / "tokenizer.json").read_bytes() == (student / "tokenizer.json").read_bytes()
    record("checkpoint conversion", "HF -> torch_dist -> HF: 25 tensors, the same bits", "round trip")


def test_what_a_training_saved_becomes_a_model(stack, pristine, megatron_dir, tmp_path, record):
    if not pristine.has("--update-weight-disk-dir", "slime/utils/arguments.py"):
        pytest.skip(f"{pristine.name} sends whole checkpoints to its engines over NCCL only")
    trained = stack.train(pristine, *loop.UPSTREAM_OPD, "--save", str(tmp_path / "saved"), "--save-interval", "1")
    assert trained.code == 0, trained.text[-5000:]
    wanted = weights(stack.models / "student")
    moved = []
    for iteration in ("0", "latest"):
        output = tmp_path / iteration
        places = ["--checkpoint-root", tmp_path / "saved", "--iteration", iteration]
        places += ["--origin-hf-dir", stack.models / "student", "--output-dir", output]
        run(pristine, megatron_dir, "convert_megatron_checkpoint_to_hf.py", *places)
        found = weights(output)
        assert found.keys() == wanted.keys()
        for name, tensor in wanted.items():  # Adam moves a weight by about the learning rate a step
            allowed = 2 * STEPS * LEARNING_RATE + BF16_STEP * tensor.float().abs()
            assert bool(((found[name].float() - tensor.float()).abs() <= allowed).all()), name
        moved.append(sum(int((found[name] != tensor).sum()) for name, tensor in wanted.items()))
    assert moved[0] > 0 and moved[1] > 0
    record("checkpoint conversion", "iterations 0 and latest of a training to HF", "training")
