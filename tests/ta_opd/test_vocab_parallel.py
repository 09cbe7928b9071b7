import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ta_opd.vocab_parallel import VocabShard

from . import row_reference as reference
from . import vocab_ranks
from .vocab_ranks import CASES, WIDTH, inputs

FLOATS_OF_52_BYTES = 13


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """{number of ranks: what each rank saved}, from real processes over gloo."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-W", "error", str(Path(vocab_ranks.__file__))]
    running = [
        subprocess.Popen([*command, str(rank), "2", str(folder)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert not any(process.returncode for process in running), errors
    first, second = (torch.load(folder / f"{rank}.pt") for rank in (0, 1))
    return {1: [first[1]], 2: [first[2], second[2]]}


def expected(case):
    """(fields, gradient [N, V]) in float64 of one process that has everything."""
    made = inputs(case)
    lists = [dict(zip(i, p, strict=True)) for i, p in zip(made["ids"].tolist(), made["logprobs"].tolist(), strict=True)]

    def compute(student):
        if case.form is None:
            return reference.row_losses(student, made["teacher"], case.plan, made["tokens"])
        return reference.topk_losses(student, lists, case.plan, case.form, made["tokens"])

    keep = made["keep"]
    upstream = {name: torch.where(keep, made[name], 0) for name in case.upstream}
    return compute(made["student"].double()), reference.gradient(made["student"], upstream, compute), keep


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_those_of_one_process_with_the_whole_vocabulary(ranks, name, size):
    fields, gradient, keep = expected(CASES[name])
    got = [saved[name] for saved in ranks[size]]
    for field, values in fields.items():
        for rank in got:
            torch.testing.assert_close(
                rank[field][keep].double(), values.detach()[keep], rtol=2e-5, atol=2e-5, equal_nan=True, msg=field
            )
            assert rank[field][~keep].isnan().all()
    whole = torch.cat([rank["grad"] for rank in got], 1)
    vocabulary = CASES[name].vocabulary
    torch.testing.assert_close(whole[:, :vocabulary].double(), gradient, rtol=3e-5, atol=3e-5)
    assert not whole[:, vocabulary:].any() and whole.shape[1] == WIDTH


@pytest.mark.parametrize("name", CASES)
def test_every_rank_has_the_same_numbers(ranks, name):
    first, second = (saved[name] for saved in ranks[2])
    for field in set(first) - {"grad", "sent", "forward"}:
        assert torch.equal(first[field].nan_to_num(nan=-1), second[field].nan_to_num(nan=-1)), field


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.floor])
def test_at_most_two_collectives_of_13_floats_a_row_and_none_in_the_backward(ranks, name):
    case = CASES[name]
    rows = int(inputs(case)["keep"].sum())
    calls = 2 if case.plan.temperature == 1 or case.form is None else 4  # a list at two temperatures is read twice
    for saved in ranks[2]:
        assert len(saved[name]["sent"]) == saved[name]["forward"] <= calls
        assert sum(size for _, size in saved[name]["sent"]) <= 4 * FLOATS_OF_52_BYTES * rows * calls // 2


def test_a_shard_knows_its_columns_and_tokens():
    shard = VocabShard(None, start=6, vocabulary=9)
    assert [shard.columns(n) for n in (2, 3, 6)] == [2, 3, 3]
    assert VocabShard(None, start=12, vocabulary=9).columns(6) == 0
    ids = torch.tensor([-1, 5, 6, 8, 9, 100])
    assert shard.local(ids, 3).tolist() == [-1, -1, 0, 2, -1, -1]
    assert shard.real(ids).tolist() == [False, True, True, True, False, False]
