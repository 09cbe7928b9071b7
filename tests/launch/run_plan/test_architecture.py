"""MODEL_ARGS as bash would set them, and parameters as published."""

import os
import subprocess
from pathlib import Path

import pytest
from run_plan.architecture import architecture_of
from run_plan.model_script import read_model_args

PUBLISHED = {
    "llama3.1-8B-Instruct": 8_030_261_248,
    "llama3.2-3B-Instruct": 3_212_749_824,
    "qwen2.5-0.5B": 494_032_768,
    "qwen2.5-1.5B": 1_543_714_304,
    "qwen2.5-3B": 3_085_938_688,
    "qwen2.5-7B": 7_615_616_512,
    "qwen2.5-32B": 32_763_876_352,
    "qwen3-0.6B": 596_049_920,
    "qwen3-1.7B": 1_720_574_976,
    "qwen3-4B": 4_022_468_096,
    "qwen3-4B-Instruct-2507": 4_022_468_096,
    "qwen3-8B": 8_190_735_360,
    "qwen3-14B": 14_768_307_200,
    "qwen3-32B": 32_762_123_264,
}
"""Parameters of the published checkpoints, tied embeddings counted once."""


def by_bash(path):
    done = subprocess.run(
        ["bash", "-c", 'source "$1" && printf "%s\\0" "${MODEL_ARGS[@]}"', "-", path], capture_output=True, check=True
    )
    return done.stdout.decode().split("\0")[:-1]


def test_words_are_those_that_bash_would_make(slime_dir):
    script = slime_dir / "scripts" / "models" / "qwen3-1.7B.sh"
    assert read_model_args(script) == by_bash(script)
    other = script.with_name("longer.sh")
    other.write_text('MODEL_ARGS_ROTARY_BASE=5000000 source "$(dirname -- "${BASH_SOURCE[0]}")/qwen3-1.7B.sh"\n')
    assert read_model_args(other) == by_bash(other)
    assert "5000000" in read_model_args(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("N=3\nMODEL_ARGS=(\n --num-layers $N\n)\n", "'$N' is worked out by the shell"),
        ("MODEL_ARGS=(\n --a\n)\nMODEL_ARGS+=(--b)\n", "has no array MODEL_ARGS that is given in one piece"),
        ("echo hello\n", "has no array MODEL_ARGS that is given in one piece"),
    ],
)
def test_what_only_a_shell_can_tell_is_refused(tmp_path, text, message):
    path = tmp_path / "model.sh"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        read_model_args(path)
    assert str(error.value).startswith(str(path)) and message in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-layers", "2"], "--hidden-size is not given"),
        (["--num-layers", "two"], "--num-layers 'two' is not a whole number above 0"),
        (["--num-layers"], "what --num-layers means"),
        (["--multi-latent-attention"], "what --multi-latent-attention means for the number of parameters is not known"),
    ],
)
def test_an_architecture_that_is_not_known_is_refused(words, message):
    with pytest.raises(ValueError) as error:
        architecture_of(words)
    assert message in str(error.value)


def test_every_gpu_together_holds_the_model(slime_dir):
    a = architecture_of(read_model_args(slime_dir / "scripts" / "models" / "qwen3-4B.sh"))
    assert a.on_one_gpu(1, 1) == a.parameters() == PUBLISHED["qwen3-4B"]
    assert a.padded_vocabulary(1) == 151936 and a.padded_vocabulary(2) == 152064
    norms = 36 * (2 * 2560 + 2 * 128) + 2560
    assert 2 * a.on_one_gpu(2, 1) == a.parameters() + norms + (152064 - 151936) * 2560
    # Two stages of 18 layers; both hold the tied embeddings.
    assert a.on_one_gpu(1, 2) == (a.parameters() + 151936 * 2560 + 2560) // 2


@pytest.mark.skipif("SLIME_DIR" not in os.environ, reason="SLIME_DIR names no slime checkout")
def test_slime_s_scripts_give_the_published_numbers():
    scripts = Path(os.environ["SLIME_DIR"]) / "scripts" / "models"
    for name, count in PUBLISHED.items():
        words = read_model_args(scripts / f"{name}.sh")
        assert words == by_bash(scripts / f"{name}.sh")
        assert architecture_of(words).parameters() == count, name
