"""A Hugging Face model to a torch_dist checkpoint: MODEL_ARGS through bash, the command, and what failures leave."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conversion_trees import TO_TORCH_DIST, Trees, shell_words

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from checkpoint_conversion.slime_tools import model_arguments

PROGRAM = "convert_hf_to_torch_dist.py"
SCRIPT = """
NLAYERS="${MODEL_ARGS_NUM_LAYERS:-2}"
echo "a script may print"
printf -v FREQUENCY "[%s]" "$(IFS=', '; echo "0 1")"
MODEL_ARGS=(
  --num-layers "$NLAYERS"
  --moe-layer-freq "$FREQUENCY"
  --empty ""
)
"""


@pytest.fixture
def trees(tmp_path):
    made = Trees(tmp_path)
    (made.slime / "scripts" / "models" / "tiny.sh").write_text(SCRIPT)
    return made


def run(trees, *arguments):
    places = ["--hf-checkpoint", trees.origin, "--output-dir", trees.output]
    return trees.run(PROGRAM, *places, *arguments)


def test_the_converter_gets_the_models_arguments_and_its_checkpoint_is_renamed(trees):
    code, printed, said = run(trees, "--model-script", "tiny", "--", "--tensor-model-parallel-size", "2")
    assert code == 0, said
    arguments = trees.called()["argv"]
    assert arguments[:6] == ["--num-layers", "2", "--moe-layer-freq", "[0 1]", "--empty", ""]
    assert arguments[6:9] == ["--hf-checkpoint", str(trees.origin), "--save"]
    assert arguments[-2:] == ["--tensor-model-parallel-size", "2"]
    assert f"wrote {trees.output} (release)" in printed
    assert (trees.output / "release" / "common.pt").is_file()
    assert list(trees.output.parent.iterdir()) == [trees.output]


@pytest.mark.parametrize(("processes", "launcher"), [(1, []), (4, ["-m", "torch.distributed.run", "--standalone"])])
def test_a_dry_run_prints_what_a_shell_would_run_and_writes_nothing(trees, processes, launcher):
    code, printed, said = run(trees, "--model-script", "tiny.sh", "--nproc", processes, "--dry-run")
    assert code == 0, said
    variables, words = shell_words(printed.splitlines()[0])
    assert variables["CUDA_DEVICE_MAX_CONNECTIONS"] == "1"
    assert variables["PYTHONPATH"].split(":")[:2] == [str(trees.megatron), str(trees.slime)]
    assert words[1 : 1 + len(launcher)] == launcher
    assert str(trees.slime / "tools" / "convert_hf_to_torch_dist.py") in words
    assert ("--nproc-per-node" in words) == (processes > 1)
    assert trees.untouched() and not (trees.slime / "tools" / "called.json").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("MODEL_ARGS=()", "sets no MODEL_ARGS"),
        ("OTHER=(--num-layers 2)", "sets no MODEL_ARGS"),
        ("MODEL_ARGS=(--num-layers $NOWHERE)", "NOWHERE: unbound variable"),
        ("exit 3", "cannot be sourced: no message"),
        ("source /nowhere.sh", "No such file or directory"),
        ("MODEL_ARGS=(", "cannot be sourced"),
    ],
)
def test_a_script_that_does_not_set_the_arguments_is_refused(trees, text, why):
    (trees.slime / "scripts" / "models" / "bad.sh").write_text(text)
    code, _, said = run(trees, "--model-script", "bad")
    assert code == 2 and why in said and said.count("\n") == 1, said
    assert trees.untouched()


def test_a_script_may_source_its_neighbour_and_be_given_by_path(trees, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_ARGS", "not this")
    monkeypatch.setenv("BASH_ENV", str(tmp_path / "nor this"))
    script = trees.slime / "scripts" / "models" / "deeper.sh"
    script.write_text('MODEL_ARGS_NUM_LAYERS=5 source "$(dirname -- "${BASH_SOURCE[0]}")/tiny.sh"')
    assert model_arguments(script)[:2] == ["--num-layers", "5"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--model-script", "qwen"], "qwen: neither a file nor one of"),
        (["--model-script", "tiny", "--nproc", "0"], "--nproc 0: must be at least 1"),
        (["--model-script", "tiny", "--hf-checkpoint", "/nowhere"], "no config.json in it"),
        (["--nproc", "2"], "--model-script"),
    ],
)
def test_a_mistake_is_one_line(trees, arguments, why):
    code, _, said = run(trees, *arguments)
    assert code == 2 and why in said and said.count("\n") == 1, said
    assert trees.untouched()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("sys.exit(5)", "exit code 5"),
        ("(release / '.metadata').unlink()", "wrote no whole checkpoint"),
        ("shutil.rmtree(release)", "wrote no whole checkpoint"),
        ("shutil.rmtree(value('--save'))", "wrote no whole checkpoint"),
    ],
)
def test_a_converter_that_fails_leaves_nothing(trees, spoil, why):
    trees.tool("convert_hf_to_torch_dist.py", TO_TORCH_DIST + spoil)
    code, _, said = run(trees, "--model-script", "tiny")
    assert code == 1 and why in said, said
    assert trees.untouched()
