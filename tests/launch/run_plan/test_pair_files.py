"""Pair files: what is read is what bash would set, and nothing else is read."""

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_plan.check import faults
from run_plan.pair_files import pair_path, read_pair

BARE = st.text("abzAZ09_./:,@%+=-", max_size=12)
QUOTED = st.text("ab Ü'\"#(){}[]|&;<>*?~\t/", max_size=12)


@st.composite
def lines(draw):
    value = draw(st.one_of(BARE, QUOTED))
    forms = [f"'{value}'"] if "'" not in value else []
    forms += [f'"{value}"'] if '"' not in value else []
    forms += [value] if set(value) <= set("abzAZ09_./:,@%+=-") else []
    return draw(st.sampled_from(forms or ["''"])) + draw(st.sampled_from(["", " ", " # why", "\t#'\""]))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(lines(), min_size=1, max_size=30))
def test_bash_sets_what_is_read(values):
    text = "# a comment\n\n" + "".join(f"NAME{i}={value}\n" for i, value in enumerate(values))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.sh"
        path.write_text(text, encoding="utf-8")
        found = read_pair(path)
        command = 'source "$1" && for n in "${@:2}"; do printf "%s\\0" "${!n}"; done'
        done = subprocess.run(["bash", "-uc", command, "-", path, *found], capture_output=True, check=True)
    assert list(found) == [f"NAME{i}" for i in range(len(values))]
    assert done.stdout.decode().split("\0")[:-1] == list(found.values())


@pytest.mark.parametrize(
    "line",
    [
        "LR=$(date)",
        'LR="$HOME"',
        "LR=`id`",
        "LR=a b",
        "export LR=1",
        "LR = 1",
        "LR='1",
        "LR=1; rm x",
        "LR=~/x",
        "LR=a'b'",
        "LR=1#x",
        'LR="a\\b"',
        "echo hello",
        "  LR=1",
    ],
)
def test_what_a_shell_would_work_out_is_refused_with_its_line(tmp_path, line):
    path = tmp_path / "pair.sh"
    path.write_text(f"# one\nSEED=1\n{line}\n", encoding="utf-8")
    (fault,) = faults(path)
    assert fault.startswith(f"{path}:3: ") and "is not NAME=value" in fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TEACHER_MODLE=x\n", "unknown variable TEACHER_MODLE; did you mean TEACHER_MODEL?"),
        ("LR=1\nLR=2\n", ":2: LR is given twice"),
        ("NUM_ROLLOUT=none\n", "NUM_ROLLOUT 'none' is not a whole number"),
        ("PAIR=other\n", "unknown variable PAIR"),
        ("OPD_TYPE=megatron\n", "unknown variable OPD_TYPE: the launchers run slime's --opd-type sglang"),
    ],
)
def test_a_fault_in_a_pair_file_names_the_file(tmp_path, text, message):
    path = tmp_path / "pair.sh"
    path.write_text(text, encoding="utf-8")
    (fault,) = faults(path)
    assert fault.startswith(str(path)) and message in fault


def test_a_pair_is_a_name_or_a_path(tmp_path):
    assert pair_path("qwen3_4b_to_1.7b").parts[-3:] == ("configs", "pairs", "qwen3_4b_to_1.7b.sh")
    (tmp_path / "mine.sh").touch()
    assert pair_path(str(tmp_path / "mine.sh")) == tmp_path / "mine.sh"
    with pytest.raises(
        ValueError, match=r"^PAIR 'qwen3_5b': there is no file .* in configs/pairs are .*qwen3_4b_to_1\.7b"
    ):
        pair_path("qwen3_5b")


def test_what_is_neither_a_method_nor_a_pair_is_refused(tmp_path):
    (tmp_path / "latin.sh").write_bytes(b"LR=\xff\n")
    assert faults(tmp_path / "latin.sh") == [f"{tmp_path / 'latin.sh'} is not UTF-8 text"]
    assert faults(tmp_path / "x.txt") == [f"{tmp_path / 'x.txt'} is neither a method's .yaml nor a pair's .sh"]
    assert faults(tmp_path / "x.sh") == [f"{tmp_path / 'x.sh'}: there is no such file"]
