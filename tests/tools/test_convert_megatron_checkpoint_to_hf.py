"""An iteration to a Hugging Face model: which one, whether it is whole, and what a bad end leaves behind (nothing)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conversion_trees import INDEX, WRITE_INDEX, Trees, shell_words
from conversion_trees import SHARD as SHARD_NAME

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from checkpoint_conversion.checkpoints import check_complete
from checkpoint_conversion.staging import partial_folder, staged

PROGRAM = "convert_megatron_checkpoint_to_hf.py"


@pytest.fixture
def trees(tmp_path):
    return Trees(tmp_path)


@pytest.mark.parametrize(
    ("names", "asked", "chosen"),
    [
        (["iter_0000009", "iter_0000049"], [], "iter_0000049"),
        (["iter_0000009", "iter_0000049"], ["--iteration", "latest"], "iter_0000049"),
        (["iter_0000009", "iter_0000049"], ["--iteration", "9"], "iter_0000009"),
        (["iter_0000000"], ["--iteration", "0"], "iter_0000000"),
        (["release"], [], "release"),
        (["release", "iter_0000009"], ["--iteration", "release"], "release"),
        (["iter_12345678"], [], "iter_12345678"),
    ],
)
def test_the_iteration_that_was_asked_for_is_converted(trees, names, asked, chosen):
    for name in names:
        trees.iteration(name)
    code, printed, said = trees.to_hf("--checkpoint-root", trees.checkpoint, *asked)
    assert code == 0, said
    arguments = trees.called()["argv"]
    assert arguments[:2] == ["--input-dir", str(trees.checkpoint / chosen)]
    assert trees.called()["path"].split(":")[:2] == [str(trees.megatron), str(trees.slime)]
    assert (trees.output / "config.json").is_file() and (trees.output / "tokenizer.json").is_file()
    assert f"from {chosen}: 3 tensors" in printed
    assert list(trees.output.parent.iterdir()) == [trees.output]


def test_one_iteration_can_be_named_by_its_folder_and_flags_go_through(trees):
    folder = trees.iteration("iter_0000009")
    code, _, said = trees.to_hf("--input-dir", folder, "--parallel", "--", "--chunk-size", "1000")
    assert code == 0, said
    assert trees.called()["argv"][-2:] == ["--chunk-size", "1000"]


def test_a_dry_run_prints_what_a_shell_would_run_and_writes_nothing(trees):
    folder = trees.iteration("iter_0000009")
    code, printed, _ = trees.to_hf("--checkpoint-root", trees.checkpoint, "--parallel", "--dry-run")
    assert code == 0 and trees.untouched()
    variables, words = shell_words(printed.splitlines()[0])
    assert variables["PYTHONPATH"].split(":")[:2] == [str(trees.megatron), str(trees.slime)]
    assert words[1] == str(trees.slime / "tools" / "convert_torch_dist_to_hf_parallel.py")
    assert words[2:6] == ["--input-dir", str(folder), "--origin-hf-dir", str(trees.origin)]
    assert not (trees.slime / "tools" / "called.json").exists()


def remove(name):
    return lambda trees: (trees.checkpoint / "iter_0000009" / name).unlink()


def empty(name):
    return lambda trees: (trees.checkpoint / "iter_0000009" / name).write_bytes(b"")


def tracker(text):
    return lambda trees: (trees.checkpoint / "latest_checkpointed_iteration.txt").write_text(text)


REFUSED = {
    "no tracker": (
        lambda t: (t.checkpoint / "latest_checkpointed_iteration.txt").unlink(),
        [],
        "there are iter_0000009",
    ),
    "torn tracker": (tracker(""), [], "says ''"),
    "a tracker of one that is gone": (tracker("10"), [], "iter_0000010 does not exist: there are iter_0000009"),
    "a number that is not there": (None, ["--iteration", "7"], "--iteration 7, but"),
    "no number": (None, ["--iteration", "last"], "must be latest, release or a number of at least 0"),
    "a negative number": (None, ["--iteration=-1"], "must be latest, release or a number of at least 0"),
    "killed while it was saved": (remove(".metadata"), [], "no .metadata in it"),
    "no common.pt": (remove("common.pt"), [], "no common.pt in it"),
    "copied in part": (remove("__0_1.distcp"), [], "1 of 2 data files are missing or empty: __0_1.distcp"),
    "a data file without data": (empty("__0_0.distcp"), [], "1 of 2 data files are missing or empty: __0_0.distcp"),
    "an empty .metadata": (empty(".metadata"), [], "its .metadata names no data file"),
    "an origin without configuration": (lambda t: (t.origin / "config.json").unlink(), [], "--origin-hf-dir"),
    "a slime without the tool": (
        lambda t: (t.slime / "tools" / "convert_torch_dist_to_hf.py").unlink(),
        [],
        "slime's tools/convert_torch_dist_to_hf.py is not in",
    ),
    "a slime without the parallel tool": (
        lambda t: (t.slime / "tools" / "convert_torch_dist_to_hf_parallel.py").unlink(),
        ["--parallel"],
        "slime's tools/convert_torch_dist_to_hf_parallel.py is not in",
    ),
    "no slime": (None, ["--slime-dir", "/nowhere"], "--slime-dir /nowhere is no slime checkout"),
    "no Megatron": (None, ["--megatron-dir", "/nowhere"], "--megatron-dir /nowhere is no Megatron-LM"),
}


@pytest.mark.parametrize(("spoil", "arguments", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_converted_is_refused_in_one_line(trees, spoil, arguments, why):
    trees.iteration("iter_0000009")
    if spoil:
        spoil(trees)
    for dry in ([], ["--dry-run"]):
        code, _, said = trees.to_hf("--checkpoint-root", trees.checkpoint, *arguments, *dry)
        assert code == 2 and why in said and said.count("\n") == 1, said
        assert trees.untouched()


def test_the_two_ways_of_naming_an_iteration_are_not_mixed(trees):
    folder = trees.iteration("iter_0000009")
    code, _, said = trees.to_hf("--input-dir", folder, "--iteration", "9")
    assert code == 2 and "--iteration 9 is of --checkpoint-root" in said
    code, _, said = trees.to_hf("--input-dir", trees.checkpoint)
    assert code == 2 and "give it as --checkpoint-root" in said


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_checkpoint_that_torch_wrote_is_complete_until_a_file_of_it_is_lost(tmp_path):
    import torch
    import torch.distributed.checkpoint as dist_cp

    dist_cp.save({"weight": torch.ones(4)}, checkpoint_id=tmp_path, no_dist=True)
    (tmp_path / "common.pt").write_bytes(b"data")
    check_complete(tmp_path)
    next(tmp_path.glob("*.distcp")).unlink()
    with pytest.raises(ValueError, match="1 of 1 data files are missing or empty: __0_0"):
        check_complete(tmp_path)


def test_an_output_is_replaced_only_by_force_and_only_by_a_whole_model(trees):
    trees.iteration("iter_0000009")
    trees.output.mkdir(parents=True)
    (trees.output / "mine").write_text("kept")
    code, _, said = trees.to_hf("--checkpoint-root", trees.checkpoint)
    assert code == 2 and "--force replaces it" in said
    trees.spoil_to_hf("sys.exit(3)")
    code, _, said = trees.to_hf("--checkpoint-root", trees.checkpoint, "--force")
    assert code == 1 and "exit code 3" in said
    assert [path.name for path in trees.output.iterdir()] == ["mine"]
    trees.spoil_to_hf("")
    code, _, said = trees.to_hf("--checkpoint-root", trees.checkpoint, "--force")
    assert code == 0, said
    assert not (trees.output / "mine").exists() and (trees.output / INDEX).is_file()
    assert list(trees.output.parent.iterdir()) == [trees.output]


SHARD = f"out / '{SHARD_NAME}'"
EDIT = "import numpy\nfrom safetensors.numpy import load_file, save_file\n"
BAD_MODELS = {
    "no shard": (f"({SHARD}).unlink()", "names model-00000-of-00001.safetensors, which is not there"),
    "a torn shard": (f"os.truncate({SHARD}, 150)", "is no whole safetensors file"),
    "a torn index": (f"os.truncate(out / '{INDEX}', 9)", "is torn"),
    "no index": (f"(out / '{INDEX}').unlink()", "has no tensors"),
    "an index of too much": (
        WRITE_INDEX.format("['extra']"),
        "names tensors that no shard has: extra",
    ),
    "no configuration": ("(out / 'config.json').unlink()", "has no config.json"),
    "a tensor left out": (
        EDIT
        + f"names = load_file({SHARD})\ndel names['model.norm.weight']\nsave_file(names, {SHARD})\n"
        + WRITE_INDEX.format("names"),
        "1 of the origin's 3 tensors were not converted: model.norm.weight",
    ),
    "padding left in": (
        EDIT
        + f"names = load_file({SHARD})\nnames['lm_head.weight'] = numpy.zeros((9, 4), 'f4')\nsave_file(names, {SHARD})",
        "lm_head.weight [9, 4] (origin: [8, 4])",
    ),
}


@pytest.mark.parametrize(("spoil", "why"), BAD_MODELS.values(), ids=BAD_MODELS.keys())
def test_a_model_that_is_not_whole_is_not_kept(trees, spoil, why):
    trees.iteration("iter_0000009")
    if "no configuration" in why or "config.json" in why:
        spoil += "\n(origin / 'config.json').unlink()"  # else it is copied from there
    trees.spoil_to_hf(spoil)
    code, _, said = trees.to_hf("--checkpoint-root", trees.checkpoint)
    assert code == 1 and why in said, said
    assert trees.untouched()


@pytest.mark.parametrize(("tied", "code"), [(True, 0), (False, 1)])
def test_the_output_layer_may_be_missing_only_where_embeddings_are_tied(trees, tied, code):
    trees.iteration("iter_0000009")
    (trees.origin / "config.json").write_text(json.dumps({"tie_word_embeddings": tied}))
    trees.spoil_to_hf(BAD_MODELS["a tensor left out"][0].replace("model.norm.weight", "lm_head.weight"))
    assert trees.to_hf("--checkpoint-root", trees.checkpoint)[0] == code


def test_old_weights_do_not_come_along_and_forgotten_tokenizer_files_do(trees):
    trees.iteration("iter_0000009")
    (trees.origin / "pytorch_model.bin").write_bytes(b"old")
    (trees.origin / "chat_template.jinja").write_text("{{ messages }}")
    trees.spoil_to_hf(
        "(out / 'chat_template.jinja').unlink(); (out / 'tokenizer.json').write_text('the tool wrote it')"
    )
    assert trees.to_hf("--checkpoint-root", trees.checkpoint)[0] == 0
    assert not (trees.output / "pytorch_model.bin").exists()
    assert (trees.output / "chat_template.jinja").read_text() == "{{ messages }}"
    assert (trees.output / "tokenizer.json").read_text() == "the tool wrote it"
    assert not (trees.output / "model.safetensors").exists()


@pytest.fixture
def begun(trees):
    """A conversion whose tool waits with half a model written, and that tool's process id."""
    trees.iteration("iter_0000009")
    trees.spoil_to_hf("(here / 'pid').write_text(str(os.getpid()))\ntime.sleep(60)")
    places = ["--origin-hf-dir", trees.origin, "--output-dir", trees.output, "--checkpoint-root", trees.checkpoint]
    process = subprocess.Popen(trees.command(PROGRAM, *places), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    pid = trees.slime / "tools" / "pid"
    wait_for(lambda: pid.is_file() and pid.read_text())
    child = int(pid.read_text())
    yield process, child
    for one in (process.pid, child):
        if alive(one):
            os.kill(one, signal.SIGKILL)
    process.communicate()


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_tool_and_leaves_nothing(trees, begun, number):
    process, child = begun
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and b"interrupted" in said
    wait_for(lambda: not alive(child))
    assert trees.untouched()


def test_after_kill_9_nobody_writes_beside_the_tool_and_the_next_call_clears_up(trees, begun):
    process, child = begun
    process.kill()
    process.wait()
    assert not trees.output.exists()
    trees.spoil_to_hf("")
    code, _, said = trees.to_hf("--checkpoint-root", trees.checkpoint)
    assert code == 2 and "another conversion is writing" in said
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: not alive(child))
    code, _, said = trees.to_hf("--checkpoint-root", trees.checkpoint)
    assert code == 0, said
    assert list(trees.output.parent.iterdir()) == [trees.output]


def test_an_output_that_was_being_replaced_at_the_kill_is_put_back(tmp_path):
    output = tmp_path / "hf"
    old = partial_folder(output) / "replaced"
    old.mkdir(parents=True)
    (old / "config.json").write_text("old")
    with pytest.raises(ValueError, match="--force replaces it"), staged(output, force=False):
        raise AssertionError("not reached")
    assert (output / "config.json").read_text() == "old"
    assert list(tmp_path.iterdir()) == [output]


def test_an_output_survives_an_error_between_writing_and_renaming(tmp_path):
    output = tmp_path / "hf"
    output.mkdir()
    (output / "config.json").write_text("old")
    with pytest.raises(FileNotFoundError), staged(output, force=True):
        pass  # nothing was created, so the renaming fails
    assert (output / "config.json").read_text() == "old"
    assert list(tmp_path.iterdir()) == [output]
