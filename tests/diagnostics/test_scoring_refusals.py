"""What eval_fixed_context_bank refuses: one line that names what is wrong, exit code 2, no file."""

import shutil

import polars as pl
import pyarrow.parquet as pq
import pytest
from fixed_context.eval_command import main as eval_main

from .tiny_pair import POSITIONS, Sample, poison, run, samples, save_bank, save_model, score, set_config


@pytest.fixture
def refused(capsys, tmp_path):
    """refused(bank, student, teacher, *flags) -> the one line on stderr."""

    def refuse(bank, student, teacher, *flags):
        output = tmp_path / "refused.parquet"
        capsys.readouterr()
        assert run(bank, student, teacher, output, *flags) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "%|" not in line]
        assert len(lines) == 1 and lines[0].startswith("eval_fixed_context_bank: error: ") and not output.exists()
        return lines[0]

    return refuse


@pytest.fixture
def copied(tmp_path, teacher):
    """A copy of the teacher to spoil."""
    return shutil.copytree(teacher, tmp_path / "copied")


def test_a_bank_that_is_no_whole_parquet_file(refused, bank, student, teacher):
    bank.write_bytes(bank.read_bytes()[:-200])
    assert "bank.parquet: not a whole Parquet file" in refused(bank, student, teacher)
    bank.unlink()
    assert "bank.parquet: no such file" in refused(bank, student, teacher)


def test_a_bank_of_another_schema_version(refused, bank, student, teacher):
    frame = pl.read_parquet(bank)
    frame.with_columns(schema_version=pl.lit(7)).write_parquet(bank)
    assert "schema version 7; this software reads version 1" in refused(bank, student, teacher)
    frame.drop("schema_version").write_parquet(bank)
    assert "no column schema_version" in refused(bank, student, teacher)


def test_a_bank_without_its_columns_names_all_that_are_missing(refused, bank, student, teacher):
    pl.read_parquet(bank).drop("prompt_id", "loss_mask").write_parquet(bank)
    assert "columns missing: prompt_id, loss_mask" in refused(bank, student, teacher)


def test_a_bank_with_a_context_twice(refused, bank, student, teacher):
    frame = pl.read_parquet(bank)
    pl.concat([frame, frame[:1]]).write_parquet(bank)
    assert "share (context_id)" in refused(bank, student, teacher)


def test_a_bank_whose_mask_does_not_fit_its_response(refused, bank, student, teacher):
    frame = pl.read_parquet(bank).with_columns(loss_mask=pl.lit([1], pl.List(pl.Int8)))
    frame.write_parquet(bank)
    assert "loss mask 1 entries" in refused(bank, student, teacher)


def test_nan_weights_are_met_before_anything_is_scored(refused, bank, student, copied):
    poison(copied, "model.layers.0.mlp.down_proj.weight")
    line = refused(bank, student, copied)
    assert f"--teacher {copied}: its logits are NaN already" in line


def test_nan_at_some_contexts_only_names_the_first(refused, bank, student, copied):
    """A broken embedding of one token spoils the contexts that hold it."""
    import safetensors.torch
    import torch

    path = copied / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    row = pl.read_parquet(bank).row(3, named=True)
    token = next(t for t in row["response_tokens"][:-1] if t > 8)
    tensors["model.embed_tokens.weight"][token] = torch.nan
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    line = refused(bank, student, copied)
    assert "the teacher gives NaN at" in line and "of context" in line


def test_contexts_longer_than_the_model_are_counted_and_named(refused, student, teacher, tmp_path):
    long = Sample([1] * 60, [2] * 10, "test")
    bank = save_bank(tmp_path / "bank.parquet", [*samples(3), long])
    line = refused(bank, student, teacher)
    assert f"1 of 4 contexts are longer than the student's {POSITIONS} positions (longest 69" in line
    name = pl.read_parquet(bank)["context_id"][3]
    assert name in line and "--max-response-tokens" in line
    score(bank, student, teacher, tmp_path / "m.parquet", "--topk", "4", "--max-response-tokens", "5")


def test_token_ids_beyond_a_model(refused, student, teacher, tmp_path):
    bank = save_bank(tmp_path / "bank.parquet", [Sample([1], [100], "test")])
    assert "outside the student's 0..95" in refused(bank, student, teacher)
    assert "outside the teacher's 0..95" in refused(bank, teacher, student)


@pytest.mark.parametrize("sample", [Sample([1, -1], [2], "test"), Sample([1], [2, -3], "test")])
def test_negative_token_ids(refused, student, teacher, tmp_path, sample):
    bank = save_bank(tmp_path / "bank.parquet", [sample])
    assert "1 of 1 contexts hold token ids outside the student's 0..95" in refused(bank, student, teacher)


def test_an_output_that_would_replace_the_bank_or_is_a_directory(capsys, bank, student, teacher, tmp_path):
    before = bank.read_bytes()
    assert run(bank, student, teacher, bank, "--topk", "4") == 2
    assert f"--output {bank} is what --context-bank reads; write to another file" in capsys.readouterr().err
    assert bank.read_bytes() == before
    place = tmp_path / "folder.parquet"
    place.mkdir()
    assert run(bank, student, teacher, place, "--topk", "4") == 2
    assert f"--output {place}: is a directory" in capsys.readouterr().err


def test_another_tokenizer_is_refused_unless_told(refused, bank, student, tmp_path):
    other = save_model(tmp_path / "other", seed=2, names="x")
    line = refused(bank, student, other, "--topk", "4")
    assert "90 of 90 ids differ, first id 0: 'w0' and 'x0'" in line and "--allow-tokenizer-mismatch" in line
    assert "was made with tokenizer" in refused(bank, other, other, "--topk", "4")
    score(bank, student, other, tmp_path / "m.parquet", "--topk", "4", "--allow-tokenizer-mismatch")


def test_a_model_without_a_tokenizer_is_refused_unless_told(refused, bank, student, copied, tmp_path):
    for path in copied.glob("tokenizer*"):
        path.unlink()
    assert "no tokenizer files" in refused(bank, student, copied)
    score(bank, student, copied, tmp_path / "m.parquet", "--topk", "4", "--allow-tokenizer-mismatch")


def test_what_is_no_model(refused, bank, student, copied, tmp_path):
    assert "--student /nowhere: no such directory" in refused(bank, "/nowhere", copied)
    (tmp_path / "empty").mkdir()
    assert "--student" in refused(bank, tmp_path / "empty", copied)
    for path in copied.glob("*.safetensors"):
        path.unlink()
    assert "no *.safetensors" in refused(bank, student, copied)


def test_weights_that_do_not_fit_the_config(refused, bank, student, copied):
    set_config(copied, hidden_size=24)
    assert "--teacher" in refused(bank, student, copied)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--topk", "0"), "--topk 0 must be 1 or more"),
        (("--topk", "97"), "--topk 97 is more than the vocabulary of 96"),
        (("--topk", "4", "--extra-topk", "8,4"), "--extra-topk 8,4"),
        (("--extra-topk", "two"), "--extra-topk 'two'"),
        (("--max-samples", "0"), "--max-samples 0"),
        (("--student-device", "tpu"), "--student-device 'tpu'"),
        (("--teacher-device", "cuda:7"), "--teacher-device cuda:7"),
        (("--exact-cmass",), "--exact-cmass is for a teacher behind a server"),
    ],
)
def test_flags_out_of_range(flags, said, refused, bank, student, teacher):
    assert said in refused(bank, student, teacher, *flags)


def test_an_unknown_flag_is_one_line_too(capsys):
    with pytest.raises(SystemExit) as left:
        eval_main(["--nonsense"])
    assert left.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


@pytest.fixture
def baseline(bank, student, teacher, tmp_path):
    score(bank, student, teacher, tmp_path / "before.parquet", "--topk", "4")
    return tmp_path / "before.parquet"


def test_a_baseline_of_another_teacher(refused, bank, student, trained, baseline):
    line = refused(bank, student, trained, "--topk", "4", "--baseline-metrics", str(baseline))
    assert "teacher_fingerprint" in line


def test_a_baseline_in_another_precision(refused, bank, student, teacher, baseline):
    flags = ("--topk", "4", "--dtype", "bfloat16", "--baseline-metrics", str(baseline))
    assert "dtype" in refused(bank, student, teacher, *flags)


def test_a_baseline_with_other_tokens(refused, bank, student, teacher, baseline, tmp_path):
    flags = ("--topk", "4", "--baseline-metrics", str(baseline))
    more = save_bank(tmp_path / "more.parquet", samples(11))
    assert "are not in the baseline, first (" in refused(more, student, teacher, *flags)
    assert "of the baseline are not here" in refused(bank, student, teacher, "--max-samples", "3", *flags)


def test_a_baseline_at_another_k(refused, bank, student, teacher, baseline):
    line = refused(bank, student, teacher, "--topk", "8", "--baseline-metrics", str(baseline))
    assert f"--baseline-metrics {baseline}: topk 4 there, 8 here" in line


def test_a_baseline_in_which_other_tokens_count(refused, bank, student, teacher, baseline):
    frame = pl.read_parquet(bank)
    masks = [[1] * length for length in frame["response_length"]]
    frame.with_columns(loss_mask=pl.Series(masks, dtype=pl.List(pl.Int8))).write_parquet(bank)
    masked = int((pl.read_parquet(baseline)["loss_mask"] == 0).sum())
    line = refused(bank, student, teacher, "--topk", "4", "--baseline-metrics", str(baseline))
    assert masked and f"{masked} of" in line and "tokens have another loss_mask in the baseline" in line


def test_a_baseline_whose_bits_flipped_is_met_before_anything_is_scored(refused, bank, student, teacher, baseline):
    group = pq.read_metadata(baseline).row_group(0)
    chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "KLf")
    content = bytearray(baseline.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
    baseline.write_bytes(content)
    shutil.rmtree(bank.with_name(f"{bank.name}.teacher"))
    line = refused(bank, student, teacher, "--topk", "4", "--baseline-metrics", str(baseline))
    assert "before.parquet: not a whole Parquet file" in line and "CRC checksum" in line
    assert not bank.with_name(f"{bank.name}.teacher").exists()


def test_an_output_below_a_file(capsys, bank, student, teacher, tmp_path):
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "m.parquet"
    assert run(bank, student, teacher, output, "--topk", "4") == 2
    said = capsys.readouterr().err
    assert f"--output {output}: {tmp_path / 'file'}" in said and len(said.splitlines()) == 1


def test_a_baseline_that_holds_a_token_twice(refused, bank, student, teacher, baseline):
    table = pq.read_table(baseline)
    import pyarrow as pa

    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), baseline)
    assert "share (context_id, tok_pos)" in refused(
        bank, student, teacher, "--topk", "4", "--baseline-metrics", str(baseline)
    )


def test_a_baseline_that_is_the_output(capsys, bank, student, teacher, baseline):
    assert run(bank, student, teacher, baseline, "--topk", "4", "--baseline-metrics", str(baseline)) == 2
    assert f"--output {baseline} is what --baseline-metrics reads" in capsys.readouterr().err


def test_contexts_without_a_response_are_reported_and_left_out(student, teacher, tmp_path, capsys):
    """Not from our export, which leaves them out itself."""
    bank = save_bank(tmp_path / "bank.parquet", samples(3))
    frame = pl.read_parquet(bank)
    empty = frame[:1].with_columns(
        context_id=pl.lit("0" * 16), response_tokens=pl.lit([], pl.List(pl.Int32)), response_length=pl.lit(0, pl.Int32)
    )
    pl.concat([frame, empty]).write_parquet(bank)
    score(bank, student, teacher, tmp_path / "m.parquet", "--topk", "4")
    assert "1 contexts without a response are left out: 0000000000000000" in capsys.readouterr().out


def test_metrics_are_written_as_parquet_only(capsys, bank, student, teacher, tmp_path):
    assert run(bank, student, teacher, tmp_path / "m.csv") == 2
    assert "m.csv: metrics are written as .parquet" in capsys.readouterr().err
