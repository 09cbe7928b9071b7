"""A pair's diagnostic driver over everything real: slime's training, its dumps and checkpoint, scoring, the report.

It is killed twice on the way, then finished, then called once more.
"""

import contextlib
import dataclasses
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from fixed_context.eval_command import main as eval_fixed_context_bank
from fixed_context.schema import KEY, read_context_bank, read_metadata, read_metrics

from ..sglang.server import SglangServer
from .environment import interpreter
from .launcher_settings import REPO, ray_folder, running_with, suite_settings

DRIVER = REPO / "diagnostics" / "run_qwen3_8b_to_4b_fixed_context_300.sh"
RUN = "pure_opd-1.00-seed41717"
ROLLOUTS, PROMPTS, SAVE_INTERVAL = 3, 4, 2
CONTEXTS, RESPONSE_TOKENS, CUT = 11, 24, 20
LIMIT_S = 1200
# bf16 on both sides, other kernels: nats between SGLang's log-probs while sampling and ours of the same tokens.
SAME_WEIGHTS = 0.02

# Scripts, such as slime's, train and convert on the CPU; modules, such as our plan, would call its variable misspelt.
SLIME_PYTHON = """#!/bin/sh
case $1 in -*) ;; *) export OPD_CPU_SHIM=1 ;; esac
exec {python} -W ignore "$@"
"""


def pair_settings(stack, checkout, megatron_dir, work, ray):
    """The driver's own recipe but for sizes; evaluations beside the rollouts; slime's Python apart from ours."""
    variables = suite_settings(stack, checkout, megatron_dir, work, ray)
    held_out = work / "held out.jsonl"
    held_out.write_text("".join(json.dumps({"prompt": f"Take {a}.", "label": str(a)}) + "\n" for a in range(3)))
    python = work / "slime python"
    python.write_text(SLIME_PYTHON.format(python=shlex.quote(interpreter())))
    python.chmod(0o755)
    extra = [*shlex.split(variables.pop("EXTRA_ARGS")), "--rm-type", "random"]
    for name in ("TAG", "TEACHER_COMMAND", "TEACHER_EXTRA_ARGS", "TRAIN_COMMAND"):
        variables.pop(name)
    return variables | {
        "PYTHON": str(python),
        "DIAGNOSTICS_PYTHON": sys.executable,
        "TEACHER_URL": stack.teacher.url,
        "EXTRA_ARGS": shlex.join(extra),
        "NUM_ROLLOUT": str(ROLLOUTS),
        "ROLLOUT_BATCH_SIZE": str(PROMPTS),
        "GLOBAL_BATCH_SIZE": str(PROMPTS),
        "ROLLOUT_MAX_RESPONSE_LEN": str(RESPONSE_TOKENS),
        "SAVE_INTERVAL": str(SAVE_INTERVAL),
        "EVAL_INTERVAL": "2",
        "EVAL_PROMPT_DATA": shlex.join(["held_out", str(held_out)]),
        "LR": "1e-3",
        "CONTEXTS": str(CONTEXTS),
        "RESPONSE_TOKENS": str(CUT),
        "BOOTSTRAP": "20",
        "SCORE_ARGS": "--student-device cpu --teacher-device cpu",
    }


@dataclasses.dataclass
class Driver:
    """The command, called again and again in the same environment. suite: its folder. teacher: who is asked."""

    variables: dict[str, str]
    suite: Path
    teacher: SglangServer
    calls: int = 0

    @property
    def out(self) -> Path:
        return self.suite / "fixed_context"

    def said(self, log: Path) -> str:
        return f"{log.read_text()[-6000:]}\nthe teacher's log:\n{self.teacher.log_end()}"

    def start(self) -> tuple[subprocess.Popen, Path]:
        self.calls += 1
        log = self.suite.parent / f"driver-{self.calls}.log"
        with log.open("wb") as output:
            words = {"stdout": output, "stderr": subprocess.STDOUT, "env": self.variables, "start_new_session": True}
            return subprocess.Popen([str(DRIVER)], **words), log

    def finish(self) -> str:
        """What a call printed that ran to its end."""
        process, log = self.start()
        try:
            code = process.wait(LIMIT_S)
        finally:
            end(process)
        assert code == 0, self.said(log)
        return log.read_text()

    def killed_while_scoring(self, metrics: Path, with_its_children: bool) -> str:
        """SIGKILL when the first scores of a metrics file are on their way; what was printed."""
        process, log = self.start()
        with contextlib.ExitStack() as unless_killed:
            unless_killed.callback(end, process)
            deadline = time.monotonic() + LIMIT_S
            while not list(metrics.parent.glob(f".{metrics.name}.*.parts")):
                assert process.poll() is None and time.monotonic() < deadline, self.said(log)
                time.sleep(0.005)
            assert not metrics.exists()
            if with_its_children:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            unless_killed.pop_all()  # a driver that was killed alone leaves its child to finish
        return log.read_text()


def end(process):
    """The driver ends what it started; the rest of its session goes with SIGKILL."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def driven(stack, suite_checkout, megatron_dir, tmp_path_factory):
    """(the driver, what each of its three calls printed)"""
    work = tmp_path_factory.mktemp("it's a pair")
    with ray_folder() as ray:
        settings = pair_settings(stack, suite_checkout, megatron_dir, work, ray)
        driver = Driver(settings, work / "qwen3_8b_to_4b_fixed_context_300", stack.teacher)
        first = driver.killed_while_scoring(driver.out / "before" / "metrics.parquet", with_its_children=True)
        after = driver.out / "after" / RUN / "fixed_context_metrics.parquet"
        second = driver.killed_while_scoring(after, with_its_children=False)
        yield driver, [first, second, driver.finish()]
        assert running_with(ray, work) == []


@pytest.fixture
def out(driven):
    return driven[0].out


def steps(printed):
    """[(name, whether it was done before)]"""
    lines = re.findall(r"^\[\d+/\d+\] (.*)$", printed, re.MULTILINE)
    return [(re.sub(r"(: done before|, about \d+ s left)$", "", line), line.endswith("done before")) for line in lines]


def test_a_killed_driver_goes_on_from_the_step_it_was_in(driven):
    scoring = ["frozen contexts", "student before training", "student before training, again: the null check"]
    scoring += [f"student after {RUN}"]
    first, second, third = driven[1]
    assert steps(first) == list(zip(scoring[:2], [False, False], strict=True))
    assert "finished before, skipped" in second
    assert steps(second) == list(zip(scoring, [True, False, False, False], strict=True))
    assert steps(third)[:4] == list(zip(scoring, [True, True, True, False], strict=True))
    assert not any(done for _, done in steps(third)[4:]) and steps(third)[-1][0] == f"report of {RUN}"


def test_the_report_is_there(driven, out, record):
    report = out / "report" / RUN / "report.html"
    assert f"Open:\n  {report}\n" in driven[1][2]
    html = report.read_text()
    assert "Null check passed" in html
    summary = json.loads((out / "analysis" / "gain" / RUN / "summary.json").read_text())
    assert summary["ks"] == [8, 16, 32]
    record("fixed contexts", "trained, converted, scored, reported", "pair driver")


def test_contexts_are_of_rollouts_and_not_of_evaluations(driven, out):
    dumps = driven[0].suite / "runs" / RUN / "debug_rollouts"
    assert list(dumps.glob("eval_*.pt"))
    assert {path.name for path in dumps.glob("[0-9]*")} == {f"{number}.pt" for number in range(ROLLOUTS)}
    contexts = read_context_bank(out / "contexts.parquet")
    assert len(contexts) == CONTEXTS
    assert set(contexts["source"]) == {str(dumps / f"{number}.pt") for number in range(ROLLOUTS)}
    assert not any("Take" in prompt for prompt in contexts["prompt"])


def test_scores_before_training_are_of_the_student_that_sampled(driven, out):
    """The token bank has SGLang's log-prob of each sampled token; those of rollout 0 are the untrained student's."""
    bank = pl.read_parquet(driven[0].suite / "runs" / RUN / "token_bank.parquet").filter(pl.col("rollout_id") == 0)
    before = read_metrics(out / "before" / "metrics.parquet")
    both = before.join(bank, on=["sample_index", "tok_pos"], how="inner", validate="1:1", suffix="_sampling")
    assert len(both) == bank.filter(pl.col("tok_pos") < CUT).height > 0
    assert (both["token_id"] == both["token_id_sampling"]).all()
    for name in ("student_logp_sampled", "teacher_logp_sampled"):
        assert (both[name] - both[f"{name}_sampling"]).abs().mean() < SAME_WEIGHTS, name


def test_the_last_checkpoint_is_scored(driven, out, stack):
    checkpoints = driven[0].suite / "runs" / RUN / "checkpoints"
    assert (checkpoints / "latest_checkpointed_iteration.txt").read_text().strip() == str(ROLLOUTS - 1)
    assert {path.name for path in checkpoints.glob("iter_*")} == {"iter_0000001", f"iter_{ROLLOUTS - 1:07d}"}
    told = read_metadata(out / "after" / RUN / "fixed_context_metrics.parquet")
    assert told["student"] == str(out / "after" / RUN / f"hf_{ROLLOUTS - 1}")
    assert told["student_fingerprint"] != read_metadata(out / "before" / "metrics.parquet")["student_fingerprint"]
    assert told["teacher"] == str(stack.models / "teacher")


def test_gains_join_one_to_one_and_are_what_was_before_less_what_is_after(out):
    before = read_metrics(out / "before" / "metrics.parquet")
    after = read_metrics(out / "after" / RUN / "fixed_context_metrics.parquet")
    contexts = read_context_bank(out / "contexts.parquet")
    assert len(after) == len(before) == sum(min(n, CUT) for n in contexts["response_length"])
    both = after.join(before, on=list(KEY), how="inner", validate="1:1", suffix="_before")
    assert len(both) == len(after) and (both["token_id"] == both["token_id_before"]).all()
    for name in ("KLf", "KLr", "JSD", "Hs"):
        assert (both[f"base_{name}"] == both[f"{name}_before"]).all()
        assert (both[f"G_{name}"] == both[f"{name}_before"] - both[name]).all()
    assert after["G_KLf"].abs().mean() > 0.001


def test_the_same_checkpoint_twice_gives_no_gain(out):
    again = read_metrics(out / "before" / "again.parquet")
    assert all((again[f"G_{name}"] == 0).all() for name in ("KLf", "KLr", "JSD", "Hs"))
    check = json.loads((out / "analysis" / "gain" / RUN / "summary.json").read_text())["null_check"]
    assert check["passed"] is True and check["largest"] == 0


def test_metrics_of_the_killed_steps_are_those_of_an_uninterrupted_one(driven, out, stack, tmp_path):
    after = out / "after" / RUN
    for student, baseline, name in (
        (stack.models / "student", None, "before/metrics.parquet"),
        (
            after / f"hf_{ROLLOUTS - 1}",
            out / "before" / "metrics.parquet",
            f"after/{RUN}/fixed_context_metrics.parquet",
        ),
    ):
        output = tmp_path / Path(name).name
        words = ["--student", student, "--teacher", stack.models / "teacher", "--output", output, "--topk", 16]
        words += ["--context-bank", out / "contexts.parquet", "--max-response-tokens", CUT, "--extra-topk", "8,32"]
        words += ["--teacher-cache", tmp_path / "teacher", *(["--baseline-metrics", baseline] if baseline else [])]
        assert eval_fixed_context_bank([str(word) for word in words]) == 0
        assert read_metrics(output).equals(read_metrics(out / name))


def test_a_finished_suite_is_not_done_again(driven, out):
    """Last of all: nothing of it is written anew."""
    driver = driven[0]
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    printed = driver.finish()
    assert "finished before, skipped" in printed
    assert [name for name, done in steps(printed) if done] == [name for name, _ in steps(driven[1][2])]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == written
