"""export_fixed_context_bank: dumps, tables, token banks and the engine to one bank; what is left out is said."""

import csv
import hashlib
import json
import pickle
from enum import Enum

import numpy as np
import polars as pl
import pytest
import torch
from fixed_context.context_bank import build_bank, write_bank
from fixed_context.export_command import main as export_main
from fixed_context.identity import context_id, prompt_id
from fixed_context.schema import CONTEXT_SCHEMA, read_context_bank
from ta_opd.teacher.signal import TeacherSignal, TopKRows

from .tiny_pair import WORDS, Sample, samples, save_tokenizer


class Status(Enum):
    ABORTED = "aborted"


class Weird:
    """A class that the reader does not know; its state must not be run."""

    ran = False

    def __setstate__(self, state):
        Weird.ran = True

    def __getstate__(self):
        return {"a": 1}


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of the dump was run')",))


def dumped(tokens, length, **more):
    """A sample as slime's Sample.to_dict has it."""
    return {
        "group_index": 0, "index": 0, "rollout_id": None, "prompt": "p", "tokens": tokens, "multimodal_inputs": None,
        "response": "r", "response_length": length, "label": None, "reward": 1.0, "loss_mask": None,
        "weight_versions": [], "rollout_log_probs": [-0.5] * length, "remove_sample": False, "status": "completed",
        "metadata": {}, "spec_info": {"spec_accept_token_num": 0}, **more,
    }  # fmt: skip


def save_dump(path, values, rollout_id=0):
    torch.save({"rollout_id": rollout_id, "samples": values}, path)


def export(capsys, *flags, code=0):
    capsys.readouterr()
    assert export_main([str(flag) for flag in flags]) == code
    said = capsys.readouterr()
    return said.err if code else said.out


def test_a_dump_with_arrays_enums_and_unknown_classes_is_read_without_running_them(tmp_path, capsys):
    values = [
        dumped([1, 2, 3, 4], 2, loss_mask=[1, 0], index=5, group_index=2, status="truncated"),
        dumped(
            torch.tensor([1, 2, 7]),
            1,
            opd_student=TopKRows.missing(1, 4),
            opd_teacher=TeacherSignal.absent(1, 4, "timeout"),
            metadata={"weird": Weird(), "bomb": Bomb(), "status": Status.ABORTED, "array": np.arange(3.0)},
        ),
        dumped([1, 2, 9, 9], 2, remove_sample=True),
    ]
    save_dump(tmp_path / "0.pt", values)
    export(capsys, "--debug-rollout-data", tmp_path / "*.pt", "--output", tmp_path / "bank.parquet")
    bank = read_context_bank(tmp_path / "bank.parquet")
    assert bank["prompt_tokens"].to_list() == [[1, 2]] * 3
    assert bank["response_tokens"].to_list() == [[3, 4], [7], [9, 9]]
    assert bank["loss_mask"].to_list() == [[1, 0], [1], [0, 0]]
    assert bank["truncated"].to_list() == [1, 0, 0] and bank["sample_index"].to_list() == [5, 0, 0]
    assert bank["source"].to_list() == [str(tmp_path / "0.pt")] * 3 and not Weird.ran


def test_rollouts_come_in_the_order_of_their_numbers(tmp_path, capsys):
    for number in (10, 2, 1):
        save_dump(tmp_path / f"{number}.pt", [dumped([1, number], 1)], number)
    export(capsys, "--debug-rollout-data", tmp_path / "*.pt", "--output", tmp_path / "b.parquet", "--max-samples", 2)
    assert read_context_bank(tmp_path / "b.parquet")["response_tokens"].to_list() == [[1], [2]]


def test_duplicates_empty_responses_and_missing_prompts_are_counted(tmp_path, capsys):
    values = [dumped([1, 2], 1), dumped([1, 2], 1), dumped([1, 2], 0), dumped([1, 2], 2), dumped([2, 1], 1)]
    save_dump(tmp_path / "0.pt", values)
    said = export(capsys, "--debug-rollout-data", tmp_path / "0.pt", "--output", tmp_path / "b.parquet")
    assert "5 samples read, 1 duplicates, 1 empty responses, 1 without a prompt" in said
    assert "2 contexts of 2 prompts, 2 response tokens" in said
    manifest = json.loads((tmp_path / "b.parquet.manifest.json").read_text())
    assert (manifest["samples_duplicate"], manifest["samples_empty"], manifest["samples_no_prompt"]) == (1, 1, 1)
    assert manifest["contexts"] == 2 and manifest["schema_version"] == 1 and manifest["longest_context"] == 2


def test_ids_are_of_the_content_and_of_where_the_prompt_ends():
    assert context_id([1, 2], [3]) == context_id(np.array([1, 2]), [3]) != context_id([1], [2, 3])
    assert prompt_id([1, 2]) != prompt_id([1]) and len(prompt_id([1])) == 16
    told = b"\1\0\0\0\2\0\0\0|\3\0\0\0"
    assert context_id([1, 2], [3]) == hashlib.sha256(told).hexdigest()[:16]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_every_form_holds_the_same_bank(suffix, tmp_path):
    tokenizer = save_tokenizer(tmp_path)
    made = [*samples(5), Sample([3], [4, 5], 'a "quoted"\nname, with commas', prompt="líne\nbreak")]
    bank, counts = build_bank(made, None, tokenizer)
    write_bank(tmp_path / f"bank.{suffix}", bank, counts, tokenizer)
    found = read_context_bank(tmp_path / f"bank.{suffix}")
    assert found.to_arrow().cast(CONTEXT_SCHEMA).equals(bank)
    assert found["prompt"][5] == "líne\nbreak" and found["response"][5] == "w4 w5"


def test_a_bank_can_be_exported_again(tmp_path, capsys):
    bank, counts = build_bank(samples(6), None)
    write_bank(tmp_path / "a.csv", bank, counts)
    export(capsys, "--contexts", tmp_path / "a.csv", "--output", tmp_path / "b.jsonl", "--max-samples", 4)
    first, second = read_context_bank(tmp_path / "a.csv")[:4], read_context_bank(tmp_path / "b.jsonl")
    same = ["context_id", "prompt_tokens", "loss_mask", "sample_index"]
    assert first.select(same).equals(second.select(same))


@pytest.mark.parametrize("pattern", ["a.jsonl", "*.jsonl"])
def test_a_file_that_is_read_is_never_the_output(pattern, tmp_path, capsys):
    bank, counts = build_bank(samples(6), None)
    write_bank(tmp_path / "a.jsonl", bank, counts)
    before = (tmp_path / "a.jsonl").read_bytes()
    flags = ("--contexts", tmp_path / pattern, "--output", tmp_path / "." / "a.jsonl", "--max-samples", 4)
    assert "is what --contexts reads; write to another file" in export(capsys, *flags, code=2)
    assert (tmp_path / "a.jsonl").read_bytes() == before


def test_tokens_with_a_response_length_are_contexts_too(tmp_path, capsys):
    (tmp_path / "c.jsonl").write_text(json.dumps({"tokens": [1, 2, 3], "response_length": 2}) + "\n")
    export(capsys, "--contexts", tmp_path / "c.jsonl", "--output", tmp_path / "b.parquet")
    assert read_context_bank(tmp_path / "b.parquet")["response_tokens"].to_list() == [[2, 3]]


def token_bank(path, made, suffix):
    rows = [
        {
            "rollout_id": 0, "sample_index": i, "group_index": s.group_index, "tok_pos": t, "token_id": token,
            "resp_len": len(s.response_tokens), "prompt_len": len(s.prompt_tokens), "truncated": i % 2,
            "loss_mask_original": 1 if s.loss_mask is None else s.loss_mask[t],
        }
        for i, s in enumerate(made) for t, token in enumerate(s.response_tokens)
    ]  # fmt: skip
    frame = pl.DataFrame(rows).sample(fraction=1, shuffle=True, seed=1)
    {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[suffix](path)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_token_bank_becomes_contexts_with_its_prompts(suffix, tmp_path, capsys):
    made = samples(6)
    token_bank(tmp_path / f"rollout_000000.{suffix}", made, suffix)
    prompts = [{"group_index": s.group_index, "prompt_tokens": s.prompt_tokens} for s in made[::2]]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    flags = ("--token-bank", tmp_path / f"rollout_*.{suffix}", "--prompts", tmp_path / "prompts.jsonl")
    export(capsys, *flags, "--output", tmp_path / "b.parquet")
    found = {row["sample_index"]: row for row in read_context_bank(tmp_path / "b.parquet").iter_rows(named=True)}
    for index, sample in enumerate(made):
        assert found[index]["prompt_tokens"] == sample.prompt_tokens
        assert found[index]["response_tokens"] == sample.response_tokens
        assert found[index]["loss_mask"] == (sample.loss_mask or [1] * len(sample.response_tokens))
        assert found[index]["truncated"] == index % 2


def test_prompts_of_another_length_than_the_token_bank_says_are_refused(tmp_path, capsys):
    made = samples(2)
    token_bank(tmp_path / "r.parquet", made, "parquet")
    (tmp_path / "p.jsonl").write_text(json.dumps({"group_index": 0, "prompt_tokens": [1] * 40}) + "\n")
    flags = ("--token-bank", tmp_path / "r.parquet", "--prompts", tmp_path / "p.jsonl")
    said = export(capsys, *flags, "--output", tmp_path / "b.parquet", code=2)
    assert "has 40 tokens, the bank says" in said and len(said.splitlines()) == 1


def test_prompts_as_text_go_through_the_tokenizer(tmp_path, capsys):
    save_tokenizer(tmp_path / "tokenizer")
    token_bank(tmp_path / "r.parquet", [Sample([5, 6], [7], "t", group_index=0)], "parquet")
    with (tmp_path / "p.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["group_index", "prompt"], [0, f"w{WORDS - 1}"]])
    flags = (
        "--token-bank",
        tmp_path / "r.parquet",
        "--prompts",
        tmp_path / "p.csv",
        "--output",
        tmp_path / "b.parquet",
    )
    assert "needs group_index or sample_index" in export(capsys, *flags, code=2)
    assert "the bank says 2" in export(capsys, *flags, "--tokenizer", tmp_path / "tokenizer", code=2)


def test_the_engines_frozen_contexts_are_read_with_its_tokenizer(tmp_path, capsys):
    save_tokenizer(tmp_path / "models" / "student")
    record = {"sample_index": 0, "group_index": 3, "prompt_tokens": [1], "response_tokens": [2, 3], "prompt": "w1"}
    (tmp_path / "frozen_contexts.jsonl").write_text(json.dumps(record | {"truncated": True}) + "\n")
    export(capsys, "--local-engine", tmp_path, "--output", tmp_path / "b.parquet")
    row = read_context_bank(tmp_path / "b.parquet").row(0, named=True)
    assert (row["response"], row["truncated"], row["group_index"]) == ("w2 w3", 1, 3)
    itself = ("--local-engine", tmp_path, "--output", tmp_path / "frozen_contexts.jsonl")
    assert "is what --local-engine reads; write to another file" in export(capsys, *itself, code=2)


@pytest.mark.parametrize("form", ["cut", "text", "list", "pickle", "no_tokens", "long"])
def test_what_is_no_dump_is_refused_in_one_line(form, tmp_path, capsys):
    path = tmp_path / "0.pt"
    save_dump(path, [dumped([1, 2], 1)])
    if form == "cut":
        path.write_bytes(path.read_bytes()[:-300])
    elif form == "text":
        path.write_text("not a dump")
    elif form == "list":
        torch.save([1, 2], path)
    elif form == "pickle":
        path.write_bytes(pickle.dumps({"samples": [Bomb()]}))
    elif form == "no_tokens":
        save_dump(path, [{"response_length": 1}])
    elif form == "long":
        save_dump(path, [dumped([1, 2], 3)])
    said = export(capsys, "--debug-rollout-data", path, "--output", tmp_path / "b.parquet", code=2)
    assert str(path) in said and len(said.splitlines()) == 1 and not (tmp_path / "b.parquet").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--debug-rollout-data", "nowhere/*.pt"), "no such file"),
        (("--token-bank", "x.parquet"), "--token-bank and --prompts go together"),
        (("--local-engine", "no/where/at/all"), "--tokenizer no/where/at/all/models/student: no such directory"),
        (("--contexts", "nowhere.jsonl", "--max-samples", "0"), "--max-samples 0"),
        (("--contexts", ""), "--contexts '': no such file"),
        (("--contexts", "/"), "--contexts /: no such file"),
        (("--contexts", "a**"), "--contexts a**: Invalid pattern"),
    ],
)
def test_flags_that_do_not_fit(flags, said, tmp_path, capsys):
    assert said in export(capsys, *flags, "--output", tmp_path / "b.parquet", code=2)


def test_an_output_below_a_file_is_refused_in_one_line(tmp_path, capsys):
    save_dump(tmp_path / "0.pt", [dumped([1, 2], 1)])
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file" / "b.parquet", tmp_path / "file" / "deeper" / "b.parquet"):
        said = export(capsys, "--debug-rollout-data", tmp_path / "0.pt", "--output", output, code=2)
        assert f"--output {output}: {tmp_path / 'file'}" in said and len(said.splitlines()) == 1


def test_a_bank_whose_bits_flipped_or_that_lacks_a_prompts_id_is_refused(tmp_path):
    bank, counts = build_bank(samples(40), None)
    path = tmp_path / "b.parquet"
    write_bank(path, bank, counts)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"b\.parquet: not a whole Parquet file"):
        read_context_bank(path)
    without = pl.from_arrow(bank).with_columns(prompt_id=pl.lit(None, pl.String))
    write_bank(path, without.to_arrow().cast(CONTEXT_SCHEMA), counts)
    with pytest.raises(ValueError, match="column prompt_id is empty at 40 of 40 rows"):
        read_context_bank(path)


def test_a_bank_of_nothing_is_refused(tmp_path, capsys):
    save_dump(tmp_path / "0.pt", [dumped([1, 2], 0)])
    said = export(capsys, "--debug-rollout-data", tmp_path / "0.pt", "--output", tmp_path / "b.parquet", code=2)
    assert "no context to export: 1 samples read, 0 duplicates, 1 empty" in said
    save_dump(tmp_path / "0.pt", [dumped([1, 2], 1)])
    said = export(capsys, "--debug-rollout-data", tmp_path / "0.pt", "--output", tmp_path / "b.txt", code=2)
    assert ".parquet, .jsonl or .csv" in said
