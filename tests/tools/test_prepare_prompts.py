"""What prepare_prompts writes for slime, and what it refuses."""

import hashlib
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import prepare_prompts
from prompt_files.records import same_text
from prompt_files.shards import held_out_hashes, parse_held_out

GSM8K = [
    {"question": "What is 1,000 + 234?", "answer": "It is <<1000+234=1234>>1,234.\n#### 1,234"},
    {"question": "Half of 9?", "answer": "#### 4.5"},
    {"question": "Café: 2 - 5?", "answer": "#### not this\n#### -3"},
]


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_index(output):
    return json.loads(output.with_name(f"{output.name}.index.json").read_text(encoding="utf-8"))


def problems(count):
    return [{"prompt": f"problem number {i}", "label": i} for i in range(count)]


@pytest.fixture
def prepare(capsys, tmp_path):
    """Runs the command on rows or files; returns the exit code, both outputs and the path of the output."""

    def run(source, *flags, output="out.jsonl"):
        if isinstance(source, list):
            source = write_rows(tmp_path / "source.jsonl", source)
        arguments = ["--input", str(source), "--output", str(tmp_path / output), *map(str, flags)]
        code = prepare_prompts.main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err, tmp_path / output

    return run


@pytest.mark.parametrize("source", ["source.jsonl", "source.parquet"])
@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
def test_gsm8k_becomes_prompts_with_bare_labels_in_the_sources_order(prepare, tmp_path, source, output):
    path = write_rows(tmp_path / source, GSM8K)
    code, _, _, written = prepare(path, "--label-from", "gsm8k", output=output)
    assert code == 0
    rows = read_rows(written)
    assert [(row["prompt"], row["label"]) for row in rows] == [
        ("What is 1,000 + 234?", "1234"),
        ("Half of 9?", "4.5"),
        ("Café: 2 - 5?", "-3"),
    ]
    index = read_index(written)
    for row, line, number in zip(rows, index["prompts"], (1, 2, 3), strict=True):
        digest = hashlib.sha256(row["prompt"].encode()).hexdigest()
        assert line == {"source": str(path), "line": number, "hash": digest, "shard": "train"}
        assert row["metadata"] == {"prompt_id": digest[:16]}
    digest = hashlib.sha256(written.read_bytes()).hexdigest()
    assert index["outputs"] == {output: {"prompts": 3, "sha256": digest}}
    assert index["settings"]["label_from"] == "gsm8k"


def test_templates_systems_and_messages(prepare):
    text = [{"prompt": "2 {x}?", "label": 1}]
    user = {"role": "user", "content": "2 {x}?"}
    system = {"role": "system", "content": "Think."}
    for flags, expected in (
        (["--prompt-template", "Q: {prompt}\nA:"], "Q: 2 {x}?\nA:"),
        (["--as-messages"], [user]),
        (["--system", "Think."], [system, user]),
        (["--system", "Think.", "--prompt-template", "<{prompt}>"], [system, {"role": "user", "content": "<2 {x}?>"}]),
    ):
        code, out, _, written = prepare(text, *flags, "--force")
        assert code == 0 and read_rows(written)[0]["prompt"] == expected
        assert ("--apply-chat-template" in out) is isinstance(expected, list)
    chat = [{"prompt": [user, {"role": "assistant", "content": "?"}, user], "label": 1}]
    _, _, _, written = prepare(chat, "--system", "Think.", "--force")
    assert read_rows(written)[0]["prompt"] == [system, *chat[0]["prompt"]]


def test_metadata_stays_and_gets_the_prompts_id(prepare):
    code, _, _, written = prepare([{"input": "a", "metadata": {"level": 3}}])
    row = read_rows(written)[0]
    assert code == 0 and row["metadata"].keys() == {"level", "prompt_id"} and "label" not in row


def test_the_same_prompts_are_kept_once_and_reported(prepare):
    same = ["Café  5?", "Cafe\u0301 5?\n", [{"role": "user", "content": "Café 5?"}], "café 5?"]
    labels = ["1", "1", "2", "1"]
    rows = [{"prompt": prompt, "label": label} for prompt, label in zip(same, labels, strict=True)]
    code, out, _, written = prepare(rows)
    assert code == 0 and "2 duplicates left out, 1 of them with another label" in out
    assert [row["prompt"] for row in read_rows(written)] == ["Café  5?", "café 5?"]
    notes = [line.get("note", "") for line in read_index(written)["prompts"]]
    assert notes[1].endswith("source.jsonl:1") and notes[2].endswith("source.jsonl:1, with another label")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_white_space_does_not_tell_prompts_apart(text):
    assert same_text(text) == same_text(f"\n{text} ".replace(" ", " \t")) == same_text(same_text(text))


hashes = st.sets(st.integers(0, 1 << 40), min_size=2, max_size=60).map(lambda numbers: [f"{n:064x}" for n in numbers])


@given(hashes, st.integers(0, 3), st.data())
def test_who_is_held_out_does_not_depend_on_the_order(names, seed, data):
    wanted = data.draw(st.integers(1, len(names) - 1))
    chosen = held_out_hashes(names, wanted, seed)
    assert len(chosen) == wanted and chosen < set(names)
    assert held_out_hashes(data.draw(st.permutations(names)), wanted, seed) == chosen


@given(hashes, hashes, st.integers(0, 3))
def test_with_a_share_nothing_that_is_appended_changes_sides(old, new, seed):
    share = parse_held_out("0.5")
    try:
        before, after = held_out_hashes(old, share, seed), held_out_hashes([*{*old, *new}], share, seed)
    except ValueError as error:
        assert "leaves none" in str(error) or "holds none" in str(error)
        return
    assert after & set(old) == before


@given(hashes, hashes, st.data())
def test_an_earlier_choice_stays_held_out(old, new, data):
    wanted = data.draw(st.integers(1, len(old) - 1))
    before = held_out_hashes(old, wanted, 1)
    both = [*{*old, *new, "f" * 64}]
    assert held_out_hashes(both, wanted, 2, before) == before
    assert before < held_out_hashes(both, wanted + 1, 1, before)


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(30)))
def test_the_held_out_file_has_the_same_prompts_whatever_the_order_of_the_source(tmp_path_factory, order):
    directory = tmp_path_factory.mktemp("order")
    source = write_rows(directory / "source.jsonl", [problems(30)[i] for i in order])
    output = directory / "out.jsonl"
    assert prepare_prompts.main(["--input", str(source), "--output", str(output), "--held-out", "7"]) == 0
    held_out, train = read_rows(directory / "out.held_out.jsonl"), read_rows(output)

    def key(number):
        content = hashlib.sha256(problems(30)[number]["prompt"].encode()).hexdigest()
        return hashlib.sha256(f"42:{content}".encode()).hexdigest()

    lowest = sorted(range(30), key=key)[:7]
    assert [int(row["label"]) for row in held_out] == [i for i in order if i in lowest]
    assert [int(row["label"]) for row in train] == [i for i in order if i not in lowest]


def test_the_index_names_the_shard_of_every_prompt_and_keeps_an_earlier_choice(prepare, tmp_path):
    _, _, _, first = prepare(problems(20), "--held-out", 5, "--held-out-output", tmp_path / "held.parquet")
    shards = {line["hash"]: line["shard"] for line in read_index(first)["prompts"]}
    held = {row["metadata"]["prompt_id"] for row in read_rows(tmp_path / "held.parquet")}
    assert {name[:16] for name, shard in shards.items() if shard == "held_out"} == held and len(held) == 5
    index = f"{first}.index.json"
    for seed in (42, 43):
        flags = ("--held-out", 5, "--keep-held-out", index, "--seed", seed, "--force")
        assert prepare(problems(200), *flags, output="second.jsonl")[0] == 0
        held_now = read_rows(tmp_path / "second.held_out.jsonl")
        assert {row["metadata"]["prompt_id"] for row in held_now} == held


BROKEN = {
    "not JSON": (b'{"prompt": ', "not JSON"),
    "no object": (b"[1, 2]", "not an object"),
    "not UTF-8": (b'{"prompt": "\xff", "label": 1}', "byte 0xff is not UTF-8"),
    "surrogate": (b'{"prompt": "\\ud800", "label": 1}', "a lone surrogate"),
    "empty": (b'{"prompt": " \\n", "label": 1}', "the prompt is empty"),
    "empty messages": (b'{"prompt": [{"role": "user", "content": " "}], "label": 1}', "the prompt is empty"),
    "no prompt": (b'{"question": "a", "label": 1}', "no 'prompt'"),
    "number": (b'{"prompt": 5, "label": 1}', "'prompt' is neither text nor a list of messages"),
    "message": (b'{"prompt": [{"role": "user"}], "label": 1}', "a message is not"),
    "no label": (b'{"prompt": "a"}', "no 'label'"),
    "null label": (b'{"prompt": "a", "label": null}', "the label is neither text nor a number"),
    "empty label": (b'{"prompt": "a", "label": ""}', "the label is empty"),
    "metadata": (b'{"prompt": "a", "label": 1, "metadata": "x"}', "'metadata' is not an object"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_line_is_named_by_its_number_and_left_out_only_when_told(prepare, tmp_path, case):
    line, reason = BROKEN[case]
    source = tmp_path / "source.jsonl"
    source.write_bytes(b'\xef\xbb\xbf{"prompt": "first", "label": 1}\n\n' + line + b'\n{"prompt": "last", "label": 2}')
    code, out, err, written = prepare(source)
    assert (code, out) == (2, "") and f"source.jsonl:3: {reason}" in err
    assert "--skip-broken" in err and not list(tmp_path.glob("out*"))
    code, out, err, written = prepare(source, "--skip-broken")
    assert code == 0 and "1 broken lines left out" in out and f":3: {reason}" in err
    assert [row["prompt"] for row in read_rows(written)] == ["first", "last"]
    assert read_index(written)["counts"]["broken"] == 1


def test_an_answer_without_a_mark_is_broken(prepare):
    code, _, err, _ = prepare([GSM8K[0], {"question": "b", "answer": "42"}], "--label-from", "gsm8k")
    assert code == 2 and "source.jsonl:2: the label has no '#### ANSWER'" in err


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """One token a word; with a chat template that adds two."""
    words = {word: number for number, word in enumerate(["[UNK]", "<user>", "<assistant>", "a", "b"])}
    plain = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=plain)
    folders = {}
    for name, template in (
        ("plain", None),
        ("chat", "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}<assistant>"),
    ):
        made.chat_template = template
        folders[name] = tmp_path_factory.mktemp("tokenizer") / name
        made.save_pretrained(folders[name])
    return folders


@pytest.mark.parametrize(("kind", "kept"), [("plain", ["a", "a b a", "a b a b"]), ("chat", ["a"])])
def test_long_prompts_are_left_out_as_the_tokenizer_counts_them(prepare, tokenizer, kind, kept):
    rows = [{"prompt": prompt} for prompt in ("a", "a b a", "a b a b", "a b a b a")]
    code, out, _, written = prepare(rows, "--max-prompt-tokens", 4, "--tokenizer", tokenizer[kind])
    assert code == 0 and [row["prompt"] for row in read_rows(written)] == kept
    assert f"{4 - len(kept)} prompts of more than 4 tokens left out" in out
    assert read_index(written)["prompts"][-1]["note"] == f"{5 + 2 * (kind == 'chat')} tokens"


def test_messages_need_a_template_to_be_counted(prepare, tokenizer):
    flags = ("--as-messages", "--max-prompt-tokens", 4, "--tokenizer", tokenizer["plain"])
    code, _, err, _ = prepare([{"prompt": "a"}], *flags)
    assert code == 2 and "has no chat template" in err


def test_outputs_that_are_there_are_written_over_only_with_force(prepare, tmp_path):
    (tmp_path / "out.held_out.jsonl").write_text("precious")
    code, _, err, written = prepare(problems(4), "--held-out", 1)
    assert code == 2 and "out.held_out.jsonl is there already; --force" in err and not written.exists()
    assert (tmp_path / "out.held_out.jsonl").read_text() == "precious"
    assert prepare(problems(4), "--held-out", 1, "--force")[0] == 0
    assert prepare(problems(4))[0] == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--input-key", "nope"], "--input-key 'nope' is not there; the keys are 'prompt', 'label'"),
        (["--label-key", "nope"], "--label-key 'nope'"),
        (["--held-out", "0"], "--held-out 0"),
        (["--held-out", "1.5"], "--held-out 1.5"),
        (
            ["--held-out", "1.0"],
            "--held-out 1.0 is neither a number of prompts, 1 or more without a point, nor a share",
        ),
        (["--held-out", "2.0"], "--held-out 2.0 is neither"),
        (["--held-out", "1e0"], "--held-out 1e0 is neither"),
        (["--held-out", "x"], "--held-out 'x'"),
        (["--held-out", "4"], "leaves none to train on"),
        (["--held-out", "5"], "more than the 4 prompts"),
        (["--held-out", "0.000001"], "holds none out"),
        (["--held-out-output", "x.jsonl"], "go with --held-out"),
        (["--prompt-template", "no place"], "does not contain {prompt}"),
        (["--max-prompt-tokens", "5"], "go together"),
        (["--max-prompt-tokens", "0", "--tokenizer", "x"], "must be 1 or more"),
        (["--held-out", "1", "--keep-held-out", "none.json"], "cannot be read"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(prepare, tmp_path, flags, said):
    code, out, err, _ = prepare(problems(4), *flags)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_sources_that_cannot_be_read_are_refused(prepare, tmp_path):
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    for source, said in (
        ("cut.parquet", "cut off or not Parquet"),
        ("none.jsonl", "cannot be read (No such file"),
        ("data.csv", "expected a .jsonl or .parquet file, or hub:NAME"),
    ):
        code, _, err, _ = prepare(tmp_path / source)
        assert code == 2 and said in err
    code, _, err, _ = prepare([])
    assert code == 2 and "no prompt is left of 0 rows" in err


def test_a_hub_dataset_without_the_library_says_what_to_install(prepare, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    code, _, err, _ = prepare("hub:openai/gsm8k")
    assert code == 2 and "pip install datasets" in err and err.count("\n") == 1


def test_an_output_that_is_an_input_is_refused_even_with_force(prepare, tmp_path):
    source = write_rows(tmp_path / "out.jsonl", problems(3))
    before = source.read_bytes()
    code, _, err, _ = prepare(source, "--force")
    assert code == 2 and "is an input, too" in err and source.read_bytes() == before
