import json
import multiprocessing

import pytest
import torch
from local_engine.store import append_jsonl, load_state, open_store, save_state, write_jsonl

SETTINGS = {"engine": {"steps": 3, "betas": [0.9, 0.95]}, "device": "cpu"}


def test_a_new_directory_is_made_and_remembers_its_settings(tmp_path):
    with open_store(tmp_path / "a" / "b", SETTINGS) as out:
        assert json.loads((out / "settings.json").read_text()) == SETTINGS


def test_the_same_settings_open_it_again(tmp_path):
    for _ in range(2):
        with open_store(tmp_path / "out", SETTINGS):
            pass


def test_other_settings_are_refused_and_named(tmp_path):
    with open_store(tmp_path, SETTINGS):
        pass
    other = {"engine": {"steps": 5, "betas": [0.9, 0.95]}, "device": "cpu"}
    with pytest.raises(ValueError, match=r"made with other settings \(engine.steps 3 there, 5 here\)"):
        open_store(tmp_path, other).__enter__()


def _hold(path, opened, release):
    with open_store(path, SETTINGS):
        opened.set()
        release.wait(20)


def test_a_second_run_is_refused_while_the_first_lives_and_may_follow_when_it_is_killed(tmp_path):
    context = multiprocessing.get_context("spawn")
    opened, release = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(tmp_path, opened, release))
    first.start()
    try:
        assert opened.wait(60)
        with pytest.raises(ValueError, match="in use by another run"):
            open_store(tmp_path, SETTINGS).__enter__()
    finally:
        first.kill()
        first.join()
    with open_store(tmp_path, SETTINGS):
        pass


def test_a_file_a_foreign_directory_and_an_impossible_path_are_refused_and_left_alone(tmp_path):
    file, foreign = tmp_path / "file", tmp_path / "foreign"
    file.write_text("mine")
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    for path, says in ((file, "is a file"), (foreign, "holds other files"), (file / "out", "cannot be written")):
        with pytest.raises(ValueError, match=says):
            open_store(path, SETTINGS).__enter__()
    assert [entry.name for entry in foreign.iterdir()] == ["thesis.tex"]
    assert file.read_text() == "mine"


def test_states_come_back_as_saved_and_absent_ones_are_none(tmp_path):
    state = {"weights": torch.arange(3.0), "step": 2, "metrics": [{"loss": 0.5, "note": None}]}
    save_state(tmp_path / "deep" / "state.pt", state)
    loaded = load_state(tmp_path / "deep" / "state.pt")
    assert torch.equal(loaded.pop("weights"), state.pop("weights"))
    assert loaded == state
    assert load_state(tmp_path / "none.pt") is None


def test_records_are_replaced_or_appended_one_a_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_jsonl(path, [{"step": 0}, {"step": 1}])
    append_jsonl(path, {"step": 2})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2]
    with pytest.raises(ValueError, match="JSON"):
        append_jsonl(path, {"loss": float("nan")})


def test_broken_settings_are_named_and_a_killed_start_is_taken_over(tmp_path):
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"settings.json is not JSON"):
        open_store(tmp_path, SETTINGS).__enter__()
    (tmp_path / "settings.json").rename(tmp_path / ".settings.json.abc.tmp")
    with open_store(tmp_path, SETTINGS):
        pass
