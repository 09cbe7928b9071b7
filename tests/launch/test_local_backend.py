"""BACKEND=local: the whole suite with the embedded engine, nothing in the place of anything."""

import csv
import json

TINY = (
    "--teacher-steps 4 --student-steps 2 --problems 40 --held-out-problems 4 --frozen-contexts 4 --vocab-size 300 "
    "--teacher 32,1,2,1,64 --student 16,1,2,1,32 --responses-per-step 4 --max-new-tokens 6 --max-prompt-tokens 40 "
    "--pretrain-batch 2 --pretrain-seq-len 32 --workers 1"
)
SLIME_S = ("SLIME_DIR", "TEACHER_MODEL", "STUDENT_HF", "STUDENT_TORCH_DIST", "STUDENT_MODEL_SCRIPT", "PROMPT_DATA")
OTHERS = ("TEACHER_COMMAND", "TRAIN_COMMAND", "RAY_COMMAND", "TEACHER_WAIT", "NUM_ROLLOUT", "SAVE_INTERVAL")
LOCAL = {**dict.fromkeys((*SLIME_S, *OTHERS)), "BACKEND": "local", "LOCAL_ARGS": TINY, "LOCAL_STEPS": "3"}


def test_a_local_suite_that_is_killed_goes_on_and_ends_in_the_same_numbers(suite):
    names = ["teachability-0.10-seed42", "random-0.10-seed42"]
    first = suite.launch(**LOCAL)
    state = suite.directory / "engine/runs" / names[0] / "state.pt"
    suite.wait_for(lambda: state.exists() or ("train", "ok") in suite.states(names[0]), first)
    first.kill()
    first.wait()
    first.stdout.close()
    code, printed = suite.run(timeout=900, **LOCAL)
    assert code == 0, printed
    with (suite.directory / "summary.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["status"] for row in rows] == ["finished", "finished"]
    for name in names:
        assert suite.states(name)[-1] == ("done", "ok")
        assert (suite.directory / "runs" / name / "token_bank.parquet").exists()
    lines = (suite.directory / "engine/metrics.jsonl").read_text().splitlines()
    steps = [(line["method"], line["step"]) for line in map(json.loads, lines)]
    assert sorted(steps) == sorted((name.partition("-")[0], step) for name in names for step in range(3))
    assert (suite.directory / "engine/report.html").exists()
