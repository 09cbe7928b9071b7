"""A scoring run killed at any time, begun again with the same command, ends in the same file."""

import os
import signal
import subprocess
import sys
import time

import polars as pl
import pytest
import torch
from fixed_context import contexts
from fixed_context.context_bank import build_bank
from fixed_context.schema import read_metrics
from fixed_context.shard_rows import ShardScorer
from fixed_context.side_by_side import side_by_side, workers_of

from .tiny_pair import run, samples, save_bank, score


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of a context or two, so that a small bank has several."""
    monkeypatch.setattr(contexts, "SHARD_TOKENS", 12)


def interrupt_after(monkeypatch, count):
    """Fail as a kill does, at the `count`-th shard that is scored."""
    calls, whole = [], ShardScorer.columns

    def fail(*arguments):
        calls.append(1)
        if len(calls) == count:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(ShardScorer, "columns", fail)
    return calls


def test_a_resumed_run_writes_the_identical_file_and_repeats_nothing(
    small_shards, monkeypatch, bank, student, teacher, tmp_path
):
    flags = ("--topk", "4")
    whole = tmp_path / "whole.parquet"
    score(bank, student, teacher, whole, *flags)
    output = tmp_path / "killed.parquet"
    with monkeypatch.context() as patch:
        calls = interrupt_after(patch, 3)
        assert run(bank, student, teacher, output, *flags) == 130 and not output.exists()
        assert len(list(tmp_path.glob(".killed.parquet.*.parts/shard_*"))) == 2
    with monkeypatch.context() as patch:
        calls = interrupt_after(patch, 10**9)
        assert run(bank, student, teacher, output, *flags) == 0
    shards = len(list((tmp_path / "bank.parquet.teacher").glob("*/hidden_*")))
    assert shards > 4 and len(calls) == shards - 2
    assert output.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".killed*"))


def test_shards_side_by_side_end_in_the_identical_file(small_shards, bank, student, teacher, tmp_path):
    begun = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        cache = ("--teacher-cache", str(tmp_path / f"cache{threads}"))
        score(bank, student, teacher, tmp_path / f"{threads}.parquet", "--topk", "4", *cache)
        assert torch.get_num_threads() == threads
    torch.set_num_threads(begun)
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "3.parquet").read_bytes()


def test_what_fails_in_a_thread_ends_the_run_and_begins_no_more():
    begun = []

    def work(number):
        begun.append(number)
        if number == 3:
            raise ValueError("shard 3")
        time.sleep(0.01)
        return number

    with pytest.raises(ValueError, match="shard 3"):
        list(side_by_side(work, range(100), 2))
    assert len(begun) < 20
    assert list(side_by_side(lambda number: number, range(5), 3)) == [0, 1, 2, 3, 4]


def test_large_models_and_devices_score_a_shard_at_a_time():
    assert workers_of("cuda:0", 1000) == workers_of("cpu", 10**9) == 1
    assert workers_of("cpu", 1000) == min(torch.get_num_threads(), 4)


def test_other_settings_do_not_meet_unfinished_scores(small_shards, monkeypatch, bank, student, teacher, tmp_path):
    output = tmp_path / "m.parquet"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        assert run(bank, student, teacher, output, "--topk", "4") == 130
    frame = score(bank, student, teacher, output, "--topk", "2")
    assert frame["student_top_ids"].dtype.size == 2


def test_a_run_killed_by_the_system_goes_on_where_it_was(bank, student, teacher, tmp_path):
    """kill -9 of a real process, while it writes; the shards are slowed down so that it is met in the middle."""
    program = (
        "import sys, time; from fixed_context import contexts, shard_rows; contexts.SHARD_TOKENS = 12\n"
        "whole = shard_rows.ShardScorer.columns\n"
        "def slow(*a):\n    time.sleep(0.2)\n    return whole(*a)\n"
        "shard_rows.ShardScorer.columns = slow\n"
        "from fixed_context.eval_command import main; raise SystemExit(main())"
    )
    output = tmp_path / "m.parquet"
    flags = ["--context-bank", bank, "--student", student, "--teacher", teacher, "--output", output, "--topk", "4"]
    command = [sys.executable, "-c", program, *map(str, flags)]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".m.parquet.*.parts/shard_000001.*")):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not output.exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = tmp_path / "expected.parquet"
    subprocess.run(
        [*command[:3], *(str(expected) if part == str(output) else part for part in command[3:])], check=True
    )
    assert output.read_bytes() == expected.read_bytes() and len(read_metrics(output)) > 0


def test_contexts_are_split_the_same_way_whatever_comes_after(monkeypatch):
    monkeypatch.setattr(contexts, "SHARD_TOKENS", 12)
    chosen, _ = contexts.select_contexts(pl.from_arrow(build_bank(samples(30), None)[0]), None, None)
    whole, first = contexts.shards(chosen), contexts.shards(chosen[:10])
    assert [c.context_id for shard in whole for c in shard] == [c.context_id for c in chosen]
    assert whole[: len(first) - 1] == first[:-1]
    assert all(len(s) == 1 or sum(len(c.response) for c in s) <= 12 for s in whole)


def test_batches_hold_each_sequence_once_and_no_more_tokens_than_asked():
    lengths = [5, 1, 30, 7, 7, 2, 30, 11]
    for most in (1, 14, 60, 1000):
        made = list(contexts.batches(lengths, most))
        assert sorted(place for batch in made for place in batch) == list(range(len(lengths)))
        assert all(len(b) == 1 or max(lengths[i] for i in b) * len(b) <= most for b in made)


def test_a_broken_file_of_the_teacher_cache_is_named(bank, student, teacher, tmp_path, capsys):
    score(bank, student, teacher, tmp_path / "a.parquet", "--topk", "4")
    cached = next((tmp_path / "bank.parquet.teacher").glob("*/hidden_*"))
    cached.write_bytes(cached.read_bytes()[:100])
    assert run(bank, student, teacher, tmp_path / "b.parquet", "--topk", "4") == 2
    assert str(cached) in capsys.readouterr().err


def test_two_banks_share_no_cache(student, teacher, tmp_path):
    for seed in (1, 2):
        bank = save_bank(tmp_path / f"{seed}.parquet", samples(seed=seed))
        flags = ("--topk", "4", "--teacher-cache", str(tmp_path / "c"))
        score(bank, student, teacher, tmp_path / f"m{seed}.parquet", *flags)
    assert len(list((tmp_path / "c").glob("*"))) == 2
