"""The doctor over prompt files and tokenizers: what slime would do with them."""

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import doctor
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
END = 258


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in doctor.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def examine(capsys):
    """examine(group, *flags) -> (exit code, {check: finding})."""

    def run(group, *more):
        code = doctor.main(["--only", group, "--json", *more])
        return code, {check["check"]: check for check in json.loads(capsys.readouterr().out)["checks"]}

    return run


def write_model(
    path, letters=BYTES, special=SPECIAL, template=TEMPLATE, bos=False, rows=512, end="<|im_end|>", ends=END
):
    """A byte tokenizer with its config: 256 letters, then special tokens."""
    raw = Tokenizer(models.BPE(vocab={letter: id_ for id_, letter in enumerate(letters)}, merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(token, special=True) for token in special])
    more = {}
    if bos:
        more["bos_token"] = special[0]
        raw.post_processor = processors.TemplateProcessing(
            single=f"{special[0]} $A", special_tokens=[(special[0], raw.token_to_id(special[0]))]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=end, pad_token=special[0], **more)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(path)
    config = {"model_type": "qwen3", "vocab_size": rows, "max_position_embeddings": 300, "eos_token_id": END}
    (path / "config.json").write_text(json.dumps(config))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return path


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("student"))


# tokenizers


def compare(examine, student, teacher, *more):
    return examine("tokenizers", "--student-hf", str(student), "--teacher-model", str(teacher), *more)


def test_one_tokenizer_for_both_passes(examine, student, tmp_path):
    shutil.copytree(student, tmp_path / "teacher")
    code, found = compare(examine, student, tmp_path / "teacher", "--tensor-parallel", "8")
    assert code == 0 and {check["status"] for check in found.values()} == {"pass"}
    assert found["vocabulary"]["numbers"] == {"student": 512, "teacher": 512, "padded": 1024}


SWAPPED = [{"e": "f", "f": "e"}.get(letter, letter) for letter in BYTES]
RARE = [*BYTES[:-2], BYTES[-1], BYTES[-2]]


@pytest.mark.parametrize(
    "change, check, status, words",
    [
        ({"letters": SWAPPED}, "token ids", "fail", "the teacher has ["),
        ({"letters": RARE}, "token ids", "fail", ""),
        ({"rows": 257}, "vocabulary", "fail", "259 tokens, its embedding 257"),
        ({"rows": 400}, "vocabulary", "pass", "an id from 400"),
        ({"special": [*SPECIAL, "<think>"]}, "added tokens", "warn", "259 is None / '<think>'"),
        ({"special": ["<|end|>", *SPECIAL[1:]]}, "added tokens", "warn", "256 is '<|endoftext|>' / '<|end|>'"),
        ({"special": ["<|end|>", *SPECIAL[1:]]}, "special tokens", "warn", "'<|endoftext|>' / '<|end|>'"),
        ({"ends": [256, END]}, "EOS", "pass", "teacher [256, 258]"),
        ({"bos": True}, "BOS", "warn", "the teacher's tokenizer puts one"),
        ({"template": TEMPLATE.replace("im_end", "endoftext")}, "chat template", "warn", "to the teacher"),
        ({"template": "{# #}" + TEMPLATE}, "chat template", "pass", "renders the same"),
        ({"template": "{{ raise_exception('no system role') }}"}, "chat template", "warn", "no system role"),
    ],
)
def test_each_difference_between_the_models_is_named(examine, student, tmp_path, change, check, status, words):
    code, found = compare(examine, student, write_model(tmp_path, **change))
    assert (found[check]["status"], code) == (status, int(status == "fail"))
    assert words in found[check]["found"]


def test_ends_that_do_not_agree_warn(examine, student, tmp_path):
    other = write_model(tmp_path / "other", ends=[256, 257])
    assert compare(examine, other, student)[1]["EOS"]["status"] == "warn"
    (other / "config.json").write_text('{"vocab_size": 512}')
    (other / "generation_config.json").unlink()
    teacher = write_model(tmp_path / "teacher", end=None)
    for file in ("config.json", "generation_config.json"):
        (teacher / file).write_text('{"vocab_size": 512}')
    code, found = compare(examine, student, teacher)
    assert code == 1 and "teacher names no EOS" in found["EOS"]["found"]


def test_a_student_without_a_template_fails_where_one_is_applied(examine, student, tmp_path):
    plain = write_model(tmp_path, template=None)
    assert compare(examine, plain, student)[1]["chat template"]["status"] == "fail"
    assert compare(examine, plain, plain, "--apply-chat-template", "0")[1]["chat template"]["status"] == "pass"


def test_a_tokenizer_that_is_broken_fails_with_its_name(examine, student, tmp_path):
    shutil.copytree(student, tmp_path / "teacher")
    (tmp_path / "teacher" / "tokenizer.json").write_text('{"model": 3}')
    code, found = compare(examine, student, tmp_path / "teacher")
    assert code == 1 and str(tmp_path / "teacher") in found["tokenizers"]["found"]


# prompts


def write_prompts(path, rows):
    path.write_text("".join(row + "\n" if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def prompts(examine, student, tmp_path):
    def run(rows, *more, name="prompts.jsonl", slice_=""):
        path = write_prompts(tmp_path / name, rows)
        return examine("prompts", "--prompt-data", f"{path}{slice_}", "--student-hf", str(student), *more)

    return run


def numbered(n, **more):
    return [{"prompt": f"What is {i} + {i}?", **more} for i in range(n)]


def test_a_file_in_slimes_form_passes(prompts):
    code, found = prompts(numbered(200, label="x"), "--label-key", "label")
    assert code == 0 and {check["status"] for check in found.values()} == {"pass"}
    text = "<|im_start|>user\nWhat is 100 + 100?<|im_end|>\n<|im_start|>assistant"  # a template's last newline goes
    expected = len(text) - len("<|im_start|>") * 2 - len("<|im_end|>") + 3
    assert found["prompt length"]["numbers"]["longest"] == expected
    assert "the student's context is 300" in found["prompt length"]["found"]


def test_messages_pass_through_the_template_and_fail_without(prompts):
    rows = [{"prompt": [{"role": "user", "content": f"What is {i}?"}]} for i in range(200)]
    assert prompts(rows)[0] == 0
    code, found = prompts(rows, "--apply-chat-template", "0")
    assert code == 1 and "200 messages without APPLY_CHAT_TEMPLATE (row 1 first)" in found["prompt form"]["found"]


@pytest.mark.parametrize(
    "rows, flags, check, status, words",
    [
        (numbered(9), ["--input-key", "question"], "prompts", "fail", "9 of 9 rows have no 'question'"),
        ([*numbered(9), {"text": "a"}], [], "prompts", "fail", "1 of 10 rows have no 'prompt' (row 10 first)"),
        (numbered(9), ["--label-key", "answer"], "prompts", "fail", "no 'answer'"),
        ([*numbered(9), "{not json"], [], "prompts", "warn", "1 of 10 lines are no JSON object"),
        (["[1]", "2"], [], "prompts", "fail", "none of them"),
        ([], [], "prompts", "fail", "0 rows"),
        ([*numbered(9), {"prompt": "  "}], [], "prompt form", "fail", "1 empty (row 10 first)"),
        ([*numbered(9), {"prompt": None}], [], "prompt form", "fail", "1 empty"),
        ([*numbered(9), {"prompt": []}], [], "prompt form", "fail", "1 empty"),
        ([*numbered(9), {"prompt": [{"role": "user", "content": ""}]}], [], "prompt form", "fail", "1 empty"),
        ([*numbered(9), {"prompt": 3}], [], "prompt form", "fail", "1 neither text nor messages"),
        ([*numbered(9), {"prompt": [{"text": "a"}]}], [], "prompt form", "fail", "1 neither text nor messages"),
        (numbered(9) + numbered(3), [], "prompt count", "warn", "3 of 12 prompts repeat another"),
        (numbered(3), [], "prompt count", "fail", "3 prompts are fewer than ROLLOUT_BATCH_SIZE 4"),
        ([*numbered(9), {"prompt": "x" * 250}], [], "prompt length", "fail", "1 do not fit the student's context"),
        (numbered(9), ["--teacher-context-length", "50"], "prompt length", "fail", "the teacher's context of 50"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_prompts_is_counted(prompts, rows, flags, check, status, words):
    code, found = prompts(rows, *flags)
    assert found[check]["status"] == status and words in found[check]["found"], found
    assert code == int(status == "fail")


def test_a_slice_and_a_cap_are_kept_to(prompts):
    rows = numbered(20)
    assert prompts(rows, slice_="@[5:15]")[1]["prompts"]["numbers"]["rows"] == 10
    assert prompts(rows, slice_="@[-8:]")[1]["prompts"]["numbers"]["rows"] == 8
    found = prompts(rows, "--prompt-rows", "6")[1]["prompts"]
    assert found["numbers"]["rows"] == 6 and "the first 6" in found["found"]


def test_parquet_is_read_and_other_files_fail(prompts, examine, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist(numbered(20)), tmp_path / "a.parquet")
    code, found = examine("prompts", "--prompt-data", str(tmp_path / "a.parquet"))
    assert code == 0 and found["prompts"]["numbers"]["rows"] == 20 and found["prompt length"]["status"] == "skipped"
    for name, words in (("b.parquet", "no Parquet"), ("c.csv", "neither"), ("d.jsonl", "no file")):
        if name[0] != "d":
            (tmp_path / name).write_bytes(b"\xff\xfe")
        code, found = examine("prompts", "--prompt-data", str(tmp_path / name))
        assert code == 1 and words in found["prompts"]["found"]
    (tmp_path / "e.jsonl").write_bytes(b"\xff\xfe\n")
    assert "not UTF-8" in examine("prompts", "--prompt-data", str(tmp_path / "e.jsonl"))[1]["prompts"]["found"]
