"""A teacher behind a server: its lists against the table it answers from, and what is then not known."""

import asyncio
import importlib.util
import math
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from fixed_context.schema import read_context_bank, read_metadata

from .scoring_reference import logprobs, token_numbers
from .tiny_pair import STUDENT_VOCABULARY, run, samples, save_bank, score

K = 4
FAKE = Path(__file__).resolve().parents[1] / "ta_opd" / "teacher" / "fake_teacher.py"


def load_fake():
    spec = importlib.util.spec_from_file_location("fake_teacher", FAKE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fake():
    return load_fake()


@contextmanager
def serving(server):
    """The server in a thread of its own, as another process would have it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        yield server
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def teacher(fake):
    with serving(fake.FakeTeacher(vocabulary=STUDENT_VOCABULARY)) as server:
        yield server


@pytest.fixture
def bank(tmp_path):
    return save_bank(tmp_path / "bank.parquet", samples())


def expected(bank, student, teacher):
    rows = []
    for context in read_context_bank(bank).iter_rows(named=True):
        tokens = [*context["prompt_tokens"], *context["response_tokens"]]
        own = logprobs(student, tokens, context["response_length"], STUDENT_VOCABULARY)
        other = teacher.logprobs(tokens, context["response_length"]).astype(float).tolist()
        rows += [token_numbers(s, t, y, K) for s, t, y in zip(own, other, context["response_tokens"], strict=True)]
    return pl.DataFrame(rows)


def close(found, reference, names):
    for name in names:
        value = np.array([math.nan if x is None else x for x in reference[name].to_list()], float)
        np.testing.assert_allclose(found[name].cast(pl.Float64).fill_null(math.nan), value, rtol=2e-5, atol=5e-6)


FLAGS = ("--topk", str(K), "--allow-tokenizer-mismatch")
LISTED = (
    "Hs", "student_logp_sampled", "teacher_logp_sampled", "target_student_rank", "student_topk_mass",
    "teacher_topk_mass", "Cmass_topk", "Coverlap", "Cjaccard", "reach_t1", "overlap_mass", "overlap_advantage",
)  # fmt: skip


def test_lists_are_scored_and_what_they_do_not_tell_is_null(bank, student, teacher, tmp_path):
    frame = score(bank, student, teacher.url, tmp_path / "m.parquet", *FLAGS)
    reference = expected(bank, student, teacher)
    close(frame, reference, LISTED)
    assert all(frame[name].null_count() == len(frame) for name in ("Ht", "KLf", "KLr", "JSD", "Cmass_exact"))
    in_list = reference["target_teacher_rank"] < K
    assert frame["target_teacher_rank"].is_not_null().to_list() == in_list.to_list()
    assert (
        frame.filter(in_list)["target_teacher_rank"].to_list()
        == reference.filter(in_list)["target_teacher_rank"].to_list()
    )
    counts = frame["loss_mask"].to_numpy() == 1
    assert frame["C_norm"].is_not_null().to_numpy().tolist() == counts.tolist(), "C's bound takes its place"
    assert read_metadata(tmp_path / "m.parquet")["teacher_kind"] == "sglang"


def test_c_is_exact_where_the_server_is_asked_for_it(bank, student, teacher, tmp_path):
    frame = score(bank, student, teacher.url, tmp_path / "m.parquet", "--exact-cmass", *FLAGS)
    close(frame, expected(bank, student, teacher), ("Cmass_exact", "KLf_union", "CBC", *LISTED))


def test_answers_are_kept_for_the_next_checkpoint(bank, student, trained, teacher, tmp_path):
    score(bank, student, teacher.url, tmp_path / "a.parquet", *FLAGS)
    asked = len(teacher.payloads)
    before = ("--baseline-metrics", str(tmp_path / "a.parquet"))
    frame = score(bank, trained, teacher.url, tmp_path / "b.parquet", *FLAGS, *before)
    assert asked == len(teacher.payloads) == 9
    assert frame["G_KLf"].null_count() == len(frame) and frame["G_Hs"].null_count() == 0


def test_a_server_that_is_not_there_is_one_line(bank, student, tmp_path, capsys, monkeypatch):
    from ta_opd.teacher import client

    monkeypatch.setattr(client, "BACK_OFF", 0.01)
    url = "http://127.0.0.1:9/generate"
    assert run(bank, student, url, tmp_path / "m.parquet", *FLAGS) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "%|" not in line]
    assert len(lines) == 1 and url in lines[0]


def test_a_context_without_an_answer_is_named(bank, student, teacher, fake, tmp_path, capsys):
    teacher.script = [fake.status(400)]
    assert run(bank, student, teacher.url, tmp_path / "m.parquet", *FLAGS) == 2
    assert "1 contexts got no answer (1 http_400), first" in capsys.readouterr().err
    score(bank, student, teacher.url, tmp_path / "m.parquet", *FLAGS)


def test_contexts_longer_than_the_server_takes(student, bank, fake, tmp_path, capsys):
    with serving(fake.FakeTeacher(vocabulary=STUDENT_VOCABULARY, limit=12)) as small:
        assert run(bank, student, small.url, tmp_path / "m.parquet", *FLAGS) == 2
    assert "tokens that the teacher's server takes, first" in capsys.readouterr().err


def test_a_server_that_names_no_tokenizer_here_is_refused_unless_told(bank, student, teacher, tmp_path, capsys):
    assert run(bank, student, teacher.url, tmp_path / "m.parquet", "--topk", str(K)) == 2
    assert "--teacher tokenizer: no such directory" in capsys.readouterr().err
    flags = ("--topk", str(K), "--teacher-tokenizer", str(student))
    score(bank, student, teacher.url, tmp_path / "m.parquet", *flags)
