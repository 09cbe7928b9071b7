"""eval_fixed_context_from_megatron: the converter is called as its command line has it, then the model is scored."""

import shlex
import sys
from pathlib import Path

import pytest
from fixed_context.megatron_command import main
from fixed_context.schema import read_metadata

CONVERTER = Path(__file__).resolve().parents[2] / "tools" / "convert_megatron_checkpoint_to_hf.py"
COPIES = """
import argparse, pathlib, shutil, sys
p = argparse.ArgumentParser()
for name in ("--checkpoint-root", "--iteration", "--origin-hf-dir", "--output-dir", "--slime-dir", "--python"):
    p.add_argument(name)
p.add_argument("--force", action="store_true")
a = p.parse_args()
if a.iteration == "13":
    sys.exit(1)
shutil.copytree(pathlib.Path(a.checkpoint_root) / f"iter_{int(a.iteration):07d}", a.output_dir, dirs_exist_ok=a.force)
"""


@pytest.fixture
def call(bank, student, teacher, tmp_path):
    """call(*flags, converter=...) -> exit code; iteration 7 is the student, and the converter copies it."""
    root = tmp_path / "checkpoint"
    root.mkdir()
    (root / "iter_0000007").symlink_to(student)
    (root / "latest_checkpointed_iteration.txt").write_text("7\n")
    copies = tmp_path / "copies.py"
    copies.write_text(COPIES)

    def run(*flags, converter=copies):
        given = {
            "--checkpoint-root": root, "--origin-hf-dir": student, "--teacher-hf-dir": teacher, "--context-bank": bank,
            "--output-dir": tmp_path / "out", "--topk": 4, "--slime-dir": tmp_path,
        }  # fmt: skip
        return main(converter, [*(str(part) for pair in given.items() for part in pair), *flags])

    return run


def test_the_latest_iteration_is_converted_once_and_scored(call, tmp_path, capfd):
    assert call() == 0
    told = read_metadata(tmp_path / "out" / "fixed_context_metrics.parquet")
    assert told["student"] == str(tmp_path / "out" / "hf_7")
    assert call("--max-samples", "2") == 0 and "is converted already" in capfd.readouterr().out
    assert call("--force-convert") == 0 and "is converted already" not in capfd.readouterr().out


def test_a_failed_conversion_is_exit_code_2(call, tmp_path, capfd):
    assert call("--iteration", "13") == 2
    assert "the conversion ended with code 1" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_a_latest_iteration(call, tmp_path, capfd):
    (tmp_path / "checkpoint" / "latest_checkpointed_iteration.txt").unlink()
    assert call() == 2 and "give --iteration N" in capfd.readouterr().err


def test_a_dry_run_prints_a_call_that_the_real_converter_takes(call, tmp_path, capfd):
    """Its own parser reads it; the call itself needs slime."""
    assert call("--dry-run", "--force-convert", "--parallel-convert", converter=CONVERTER) == 0
    assert not (tmp_path / "out").exists()
    words = shlex.split(capfd.readouterr().out.splitlines()[0])
    assert words[:2] == [sys.executable, str(CONVERTER)]
    sys.path.insert(0, str(CONVERTER.parent))
    try:
        from convert_megatron_checkpoint_to_hf import build_parser
    finally:
        sys.path.remove(str(CONVERTER.parent))
    options = build_parser().parse_args(words[2:])
    assert options.iteration == "7" and options.force and options.parallel
    assert options.output_dir == tmp_path / "out" / "hf_7"
