"""Fixed-context scoring with a teacher behind the real SGLang server, against the same teacher in transformers.

Axes: K entries of a top-k list.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
import transformers
from fixed_context.context_bank import Sample, build_bank, write_bank
from fixed_context.eval_command import main
from fixed_context.schema import read_metadata, read_metrics

from .sglang.tiny_models import TRIGGER

K = 16
# The server's logits are bf16; see test_real_sglang.
LOGPROB_ERROR = 1 / 16


@pytest.fixture(scope="module")
def bank(tiny_models, tmp_path_factory):
    """Six responses that the student sampled to two prompts, and one of a single token."""
    student = transformers.Qwen3ForCausalLM.from_pretrained(tiny_models["student"], dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, TRIGGER, (2, 24), generator=generator).repeat_interleave(3, 0)
    with torch.no_grad():
        for _ in range(40):
            following = student(tokens).logits[:, -1].softmax(-1)
            tokens = torch.cat([tokens, torch.multinomial(following, 1, generator=generator)], 1)
    made = [Sample(row[:24], row[24:], "test") for row in tokens.tolist()]
    made.append(Sample(tokens[0, :24].tolist(), [5], "test"))
    path = tmp_path_factory.mktemp("bank") / "bank.parquet"
    write_bank(path, *build_bank(made, None))
    return path


def score(bank, tiny_models, teacher, output, *flags):
    student = str(tiny_models["student"])
    given = ["--context-bank", str(bank), "--student", student, "--teacher", str(teacher), "--output", str(output)]
    assert main([*given, "--topk", str(K), *flags]) == 0
    return read_metrics(output)


@pytest.fixture(scope="module")
def dense(bank, tiny_models, tmp_path_factory):
    """The same teacher's whole distributions."""
    return score(bank, tiny_models, tiny_models["teacher"], tmp_path_factory.mktemp("dense") / "m.parquet")


def test_a_server_tells_what_the_model_tells_as_far_as_lists_go(sglang, bank, tiny_models, dense, tmp_path):
    """The server names its tokenizer, which lies on this machine and is the student's."""
    frame = score(bank, tiny_models, sglang.url, tmp_path / "m.parquet", "--exact-cmass")
    key = ["context_id", "tok_pos", "token_id"]
    assert frame.select(key).equals(dense.select(key)) and len(frame) == 241
    assert frame["Hs"].equals(dense["Hs"])
    assert all(frame[name].null_count() == len(frame) for name in ("Ht", "KLf", "KLr", "JSD"))

    def difference(name):
        return (frame[name] - dense[name]).abs()

    assert difference("teacher_logp_sampled").max() <= LOGPROB_ERROR
    for name in ("Cmass_exact", "teacher_topk_mass", "Cmass_topk"):
        assert difference(name).median() < 0.01 and difference(name).max() < 0.1, name
    assert frame["Cmass_exact"].null_count() == 0
    assert (frame["Cmass_topk"] <= frame["Cmass_exact"] + 1e-6).all()
    assert difference("KLf_union").median() < 0.02
    same = np.array([set(a) == set(b) for a, b in zip(frame["teacher_top_ids"], dense["teacher_top_ids"], strict=True)])
    assert same.mean() > 0.7, "lists differ by ties of bf16 only"
    told = read_metadata(tmp_path / "m.parquet")
    assert told["teacher_kind"] == "sglang" and sglang.version in told["teacher_fingerprint"]
    assert told["tokenizers"]["student"] == told["tokenizers"]["teacher"]


def test_without_asking_c_is_a_bound_and_d_is_imputed(sglang, bank, tiny_models, dense, tmp_path):
    frame = score(bank, tiny_models, sglang.url, tmp_path / "m.parquet")
    assert frame["Cmass_exact"].null_count() == len(frame)
    assert (frame["Cmass_topk"] - dense["Cmass_topk"]).abs().median() < 0.01
    assert frame.filter(pl.col("loss_mask") == 1)["C_norm"].null_count() == 0
    assert frame["KLf_union"].null_count() == 0
