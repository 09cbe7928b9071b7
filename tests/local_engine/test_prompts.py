import json

import pytest
from local_engine.prompts import Problem, load_problems, split_problems


@pytest.fixture
def write(tmp_path):
    def write_lines(*lines):
        path = tmp_path / "problems.jsonl"
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        path.write_bytes(text.encode() if text.isascii() else text.encode("utf-8"))
        return path

    return write_lines


def test_gsm8k_form_is_read_without_keys(write):
    path = write({"question": "1+1?", "answer": "#### 2"}, {"question": "2+2?", "answer": "#### 4"})
    assert load_problems(path) == [Problem("1+1?", "#### 2"), Problem("2+2?", "#### 4")]


def test_first_record_decides_between_several_known_keys(write):
    record = {"input": "c", "question": "b", "prompt": "a", "solution": "z", "answer": "y", "label": "x"}
    assert load_problems(write(record)) == [Problem("a", "x")]
    assert load_problems(write({k: record[k] for k in ("input", "question", "solution", "answer")})) == [
        Problem("b", "y")
    ]
    assert load_problems(write({"input": "c", "solution": "z"})) == [Problem("c", "z")]


def test_given_keys_win_over_known_ones(write):
    path = write({"prompt": "no", "label": "no", "task": "yes", "gold": 7})
    assert load_problems(path, "task", "gold") == [Problem("yes", "7")]


def test_chat_contents_are_joined_in_order(write):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    assert load_problems(write({"prompt": chat, "label": 2})) == [Problem("Be brief.\n1+1?", "2")]


def test_line_separators_inside_strings_byte_order_mark_and_crlf_do_not_matter(tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_bytes('\ufeff{"prompt": "a\u2028b", "label": "ü"}\r\n\r\n'.encode())
    assert load_problems(path) == [Problem("a\u2028b", "ü")]


GOOD = {"prompt": "p", "label": "l"}


@pytest.mark.parametrize(
    ("lines", "keys", "parts"),
    [
        pytest.param([], {}, ["--prompts", "no records"], id="empty"),
        pytest.param(["", "  "], {}, ["--prompts", "no records"], id="only blank lines"),
        pytest.param([GOOD, "", "{"], {}, ["jsonl:3", "not JSON"], id="broken JSON after a blank line"),
        pytest.param([GOOD, "[1]"], {}, ["jsonl:2", "a list", "object"], id="list record"),
        pytest.param(["3"], {}, ["jsonl:1", "a number", "object"], id="number record"),
        pytest.param([{"text": "p", "label": "l"}], {}, ["--input-key", "'text', 'label'"], id="no input key"),
        pytest.param([{"prompt": "p", "x": "l"}], {}, ["--label-key", "'prompt', 'x'"], id="no label key"),
        pytest.param([GOOD, {"prompt": "p"}], {}, ["jsonl:2", "--label-key 'label'", "'prompt'"], id="key lost later"),
        pytest.param([GOOD], {"input_key": "q"}, ["jsonl:1", "--input-key 'q'", "'prompt', 'label'"], id="wrong flag"),
        pytest.param([{}], {}, ["jsonl:1", "--input-key", "no keys"], id="empty object"),
        pytest.param([{"prompt": 3, "label": "l"}], {}, ["--input-key prompt", "a number", "string"], id="int"),
        pytest.param([{"prompt": None, "label": "l"}], {}, ["--input-key prompt", "null"], id="null prompt"),
        pytest.param([{"prompt": ["p"], "label": "l"}], {}, ["--input-key prompt", "chat"], id="list of strings"),
        pytest.param([{"prompt": [], "label": "l"}], {}, ["--input-key prompt", "blank"], id="empty chat"),
        pytest.param([{"prompt": " \n", "label": "l"}], {}, ["--input-key prompt", "blank"], id="blank prompt"),
        pytest.param([{"prompt": "p", "label": None}], {}, ["--label-key label", "null"], id="null label"),
        pytest.param([{"prompt": "p", "label": True}], {}, ["--label-key label", "a boolean"], id="bool label"),
        pytest.param([{"prompt": "p", "label": {}}], {}, ["--label-key label", "an object"], id="object label"),
        pytest.param(['{"prompt": "\\ud800", "label": "l"}'], {}, ["--input-key prompt", "surrogate"], id="surrogate"),
    ],
)
def test_bad_content_is_refused_in_one_line_naming_place_and_flag(write, lines, keys, parts):
    with pytest.raises(ValueError) as caught:
        load_problems(write(*lines), **keys)
    message = str(caught.value)
    assert "\n" not in message
    for part in ["problems.jsonl", *parts]:
        assert part in message


def test_missing_file_directory_and_other_encodings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--prompts .*nowhere\.jsonl: cannot be read \(No such file"):
        load_problems(tmp_path / "nowhere.jsonl")
    with pytest.raises(ValueError, match=r"--prompts .*cannot be read \(Is a directory\)"):
        load_problems(tmp_path)
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b'{"prompt": "p", "label": "l"}\n{"prompt": "\xe9t\xe9", "label": "l"}')
    with pytest.raises(ValueError, match=r"latin\.jsonl:2: byte 0xe9 is not UTF-8"):
        load_problems(latin)


def test_split_keeps_every_problem_and_no_prompt_on_both_sides():
    problems = [Problem(f"p{i % 30}" + " " * (i % 2), str(i)) for i in range(90)]
    train, held_out = split_problems(problems, held_out=10, seed=0)
    assert sorted([*train, *held_out], key=str) == sorted(problems, key=str)
    assert len({p.prompt.strip() for p in held_out}) == 10
    assert not {p.prompt.strip() for p in train} & {p.prompt.strip() for p in held_out}


def test_split_depends_on_the_seed_and_only_on_it():
    problems = [Problem(f"p{i}", "") for i in range(50)]
    assert split_problems(problems, 10, seed=1) == split_problems(problems, 10, seed=1)
    assert split_problems(problems, 10, seed=1) != split_problems(problems, 10, seed=2)
    assert split_problems(problems, 10, seed=1)[1] != problems[:10]


def test_split_of_too_few_distinct_prompts_says_how_many_are_needed():
    problems = [Problem("same", str(i)) for i in range(9)] + [Problem("other", "")]
    with pytest.raises(
        ValueError, match="2 distinct prompts are too few for --held-out-problems 2; at least 3 are needed"
    ):
        split_problems(problems, held_out=2, seed=0)
    with pytest.raises(ValueError, match="--held-out-problems 0 must be 1 or more"):
        split_problems(problems, held_out=0, seed=0)
