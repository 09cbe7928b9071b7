"""The whole experiment: pre-train teacher and student, run every method, re-score the frozen contexts.

Every phase is resumable and a pure function of the settings, so an interrupted run ends in the same numbers.
"""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from ta_opd import Options
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from .frozen import Distances, FrozenContexts
from .models import build_model, encode_prompts, encode_solutions
from .opd import OPDRun
from .pretraining import Pretrainer, solution_loss
from .progress import phase
from .prompts import Problem
from .rollout import sample
from .settings import Settings
from .store import append_jsonl, load_state, save_state, write_jsonl
from .suite import Run

_SECONDS_BETWEEN_PRETRAINING_STATES = 2.0
_FROZEN_SEED_OFFSET = 10_000


@dataclass(frozen=True)
class Corpus:
    """The problems in token ids; train and held_out share no prompt."""

    tokenizer: PreTrainedTokenizerFast
    train: Sequence[Problem]
    held_out: Sequence[Problem]
    train_prompts: list[list[int]]
    train_solutions: list[list[int]]
    held_out_prompts: list[list[int]]
    held_out_solutions: list[list[int]]

    @staticmethod
    def encode(tokenizer, train: Sequence[Problem], held_out: Sequence[Problem], max_prompt_tokens: int) -> Corpus:
        return Corpus(
            tokenizer,
            train,
            held_out,
            encode_prompts(tokenizer, [problem.prompt for problem in train], max_prompt_tokens),
            encode_solutions(tokenizer, train),
            encode_prompts(tokenizer, [problem.prompt for problem in held_out], max_prompt_tokens),
            encode_solutions(tokenizer, held_out),
        )


@dataclass(frozen=True)
class Baseline:
    """What every run starts from. first_rollout: the responses that every method sees in its first step, by seed."""

    teacher: PreTrainedModel
    student: PreTrainedModel
    frozen: FrozenContexts
    first_rollout: dict[int, FrozenContexts]
    teacher_loss: float
    student_loss: float


@dataclass(frozen=True)
class RunResult:
    """A finished run: its steps' metrics, the trained student's distances, its loss on held-out solutions."""

    run: Run
    metrics: list[dict[str, Any]]
    held_out: Distances
    rollout: Distances
    solution_loss: float
    seconds: float


class Engine:
    def __init__(self, settings: Settings, corpus: Corpus, out: Path, console: Console):
        self._settings, self._corpus, self._out, self._console = settings, corpus, out, console
        self._defaults = settings.defaults

    def run(self) -> tuple[Baseline, list[RunResult]]:
        """All phases; results in the order of the settings' runs."""
        teacher = self._pretrained("teacher", self._pretrainer("teacher", 0))
        student = self._pretrained("student", self._pretrainer("student", 1))
        baseline = self._baseline(teacher, student)
        write_jsonl(
            self._out / "metrics.jsonl", [row for run in self._settings.runs for row in self._saved_metrics(run)]
        )
        return baseline, [self._distilled(run, baseline) for run in self._settings.runs]

    def _pretrainer(self, name: str, seed_offset: int) -> Pretrainer:
        """The teacher learns from all training problems, the student from the first student_problems of them: a student
        that has seen them all is flatter than its teacher, and descending the reverse KL then raises the forward KL."""
        defaults, corpus = self._defaults, self._corpus
        is_teacher = name == "teacher"
        seed = defaults.base_seed + seed_offset
        documents = [[*p, *s] for p, s in zip(corpus.train_prompts, corpus.train_solutions, strict=True)]
        return Pretrainer(
            build_model(defaults.teacher if is_teacher else defaults.student, corpus.tokenizer, seed),
            documents if is_teacher else documents[: defaults.student_problems],
            steps=defaults.teacher_steps if is_teacher else defaults.student_steps,
            batch_size=defaults.pretrain_batch,
            seq_len=defaults.pretrain_seq_len,
            lr=defaults.teacher_lr if is_teacher else defaults.student_lr,
            weight_decay=defaults.pretrain_weight_decay,
            betas=defaults.pretrain_betas,
            grad_clip=defaults.pretrain_grad_clip,
            warmup_steps=defaults.pretrain_warmup_steps,
            seed=seed,
        )

    def _pretrained(self, name: str, trainer: Pretrainer) -> PreTrainedModel:
        path, steps = self._out / "pretrained" / f"{name}.pt", trainer.steps
        if state := load_state(path):
            trainer.load_state_dict(state)
        if trainer.completed_steps < steps:
            saved = time.monotonic()
            with phase(self._console, f"pre-train the {name}", steps, trainer.completed_steps) as bar:
                for step in range(trainer.completed_steps, steps):
                    loss = trainer.step(step)
                    bar.advance(f"loss {loss:.2f}")
                    if step + 1 == steps or time.monotonic() - saved > _SECONDS_BETWEEN_PRETRAINING_STATES:
                        save_state(path, trainer.state_dict())
                        saved = time.monotonic()
        trainer.model.to(self._settings.device).eval()
        self._save_model(name, trainer.model)
        return trainer.model

    def _baseline(self, teacher: PreTrainedModel, student: PreTrainedModel) -> Baseline:
        defaults, corpus, options = self._defaults, self._corpus, self._settings.options
        count = min(defaults.frozen_contexts, len(corpus.held_out))
        seeds = sorted({run.seed for run in self._settings.runs})
        with phase(self._console, "freeze student contexts", 1 + len(seeds)) as bar:
            responses = sample(
                student,
                range(count),
                corpus.held_out_prompts,
                defaults.max_new_tokens,
                defaults.base_seed + _FROZEN_SEED_OFFSET,
                student.config.eos_token_id,
                student.config.pad_token_id,
            )
            variant, k = options.score_variant, options.topk_metrics_k
            frozen = FrozenContexts.build(responses, student, teacher, k, variant)
            bar.advance()
            first_rollout = {}
            for seed in seeds:
                first = self._opd_run(Run(self._settings.runs[0].method, seed), copy.deepcopy(student), teacher)
                first_rollout[seed] = FrozenContexts.build(first.responses(0), student, teacher, k, variant)
                bar.advance()
        return Baseline(
            teacher,
            student,
            frozen,
            first_rollout,
            self._solution_loss(teacher),
            self._solution_loss(student),
        )

    def _opd_run(self, run: Run, student: PreTrainedModel, teacher: PreTrainedModel) -> OPDRun:
        return OPDRun(
            student,
            teacher,
            self._corpus.train_prompts,
            run_options(self._settings.options, run),
            self._defaults,
            run.seed,
            self._directory(run) / "token_bank",
        )

    def _distilled(self, run: Run, baseline: Baseline) -> RunResult:
        directory = self._directory(run)
        result = load_state(directory / "result.pt")
        if result is None:
            result = self._distil(run, baseline, directory)
        return RunResult(
            run,
            result["metrics"],
            Distances(*result["held_out"]),
            Distances(*result["rollout"]),
            result["solution_loss"],
            result["seconds"],
        )

    def _distil(self, run: Run, baseline: Baseline, directory: Path) -> dict[str, Any]:
        opd = self._opd_run(run, copy.deepcopy(baseline.student), baseline.teacher)
        metrics: list[dict[str, Any]] = []
        if state := load_state(directory / "state.pt", self._settings.device):
            opd.load_state_dict(state["opd"])
            metrics = state["metrics"]
        steps = self._defaults.steps
        with phase(self._console, f"{run.method.label} seed {run.seed}", steps, opd.completed_steps) as bar:
            for step in range(opd.completed_steps, steps):
                row = run.identity | opd.step(step)
                metrics.append(row)
                save_state(directory / "state.pt", {"opd": opd.state_dict(), "metrics": metrics})
                append_jsonl(self._out / "metrics.jsonl", row)
                bar.advance(f"reverse KL {row['reverse_kl']:.3f}")
        started = time.monotonic()
        result = {
            "metrics": metrics,
            "held_out": tuple(baseline.frozen.distances(opd.student)),
            "rollout": tuple(baseline.first_rollout[run.seed].distances(opd.student)),
            "solution_loss": self._solution_loss(opd.student),
        }
        result["seconds"] = sum(row["seconds"] for row in metrics) + time.monotonic() - started
        self._save_model(run.directory, opd.student)
        save_state(directory / "result.pt", result)
        (directory / "state.pt").unlink(missing_ok=True)
        return result

    def _solution_loss(self, model: PreTrainedModel) -> float:
        return solution_loss(model, self._corpus.held_out_prompts, self._corpus.held_out_solutions)

    def _directory(self, run: Run) -> Path:
        return self._out / "runs" / run.directory

    def _saved_metrics(self, run: Run) -> list[dict[str, Any]]:
        for name in ("result.pt", "state.pt"):
            if saved := load_state(self._directory(run) / name):
                return saved["metrics"]
        return []

    def _save_model(self, name: str, model: PreTrainedModel) -> None:
        """The model and tokenizer in transformers' form under models/; a whole directory or none."""
        final = self._out / "models" / name
        if final.exists():
            return
        temporary = final.with_name(f".{name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        model.save_pretrained(temporary)
        self._corpus.tokenizer.save_pretrained(temporary)
        temporary.rename(final)


def run_options(options: Options, run: Run) -> Options:
    """The settings' options with this run's selector, ratio and seed."""
    return replace(
        options,
        budget_mask=run.method.mask,
        budget_ratio=run.method.ratio,
        budget_mask_seed=options.budget_mask_seed + run.seed,
    )
