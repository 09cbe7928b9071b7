"""The phases: pre-train teacher and student, freeze contexts, distil with every method.

An interrupted phase goes on where it stopped and ends in the same numbers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from .corpus import Corpus
from .experiment import Baseline, Experiment, RunResult, run_directory, save_model, saved_metrics
from .models import build_model, quiet_transformers
from .pretraining import Pretrainer
from .progress import phase
from .settings import Settings
from .store import append_jsonl, load_state, save_state, write_jsonl
from .workers import Work, side_by_side

MODELS = ("teacher", "student")
_SECONDS_BETWEEN_PRETRAINING_STATES = 2.0


def run_engine(settings: Settings, corpus: Corpus, out: Path, console: Console) -> tuple[Baseline, list[RunResult]]:
    """All phases; results in the order of the settings' runs."""
    torch.set_num_threads(1)
    _pretrain_both(settings, corpus, out, console)
    with phase(console, "freeze student contexts", 1) as bar:
        experiment = open_experiment(settings, corpus, out)
        write_jsonl(out / "frozen_contexts.jsonl", experiment.frozen_records())
        bar.advance(f"{len(experiment.frozen.prompt):,} tokens")
    _distil_all(settings, corpus, out, console)
    results = [experiment.result(run) for run in settings.runs]
    write_jsonl(out / "metrics.jsonl", [row for result in results for row in result.metrics])
    return experiment.baseline(), results


def open_experiment(settings: Settings, corpus: Corpus, out: Path) -> Experiment:
    """From the finished pre-training states."""
    models = [_pretrained(name, settings, corpus, out).model for name in MODELS]
    return Experiment(settings, corpus, out, *(model.to(settings.device).eval() for model in models))


def _pretrained(name: str, settings: Settings, corpus: Corpus, out: Path) -> Pretrainer:
    """The teacher's or student's pre-training as far as it has come.

    The teacher learns from all training problems, the student from the first student_problems of them. A student
    trained briefly on all is flatter than its teacher, and descending the reverse KL then raises the forward KL; one
    trained longer on all is hardly worse than its teacher (docs/lab-notes.md).
    """
    defaults, is_teacher = settings.defaults, name == "teacher"
    seed = defaults.base_seed + (0 if is_teacher else 1)
    documents = [[*p, *s] for p, s in zip(corpus.train_prompts, corpus.train_solutions, strict=True)]
    trainer = Pretrainer(
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
    if state := load_state(_pretraining_path(out, name)):
        trainer.load_state_dict(state)
    return trainer


def _pretraining_path(out: Path, name: str) -> Path:
    return out / "pretrained" / f"{name}.pt"


def _pretrain_both(settings: Settings, corpus: Corpus, out: Path, console: Console) -> None:
    trainers = {name: _pretrained(name, settings, corpus, out) for name in MODELS}
    pending = [name for name in MODELS if trainers[name].completed_steps < trainers[name].steps]
    if pending:
        total, finished = (sum(getattr(t, name) for t in trainers.values()) for name in ("steps", "completed_steps"))
        with phase(console, "pre-train teacher and student", total, finished) as bar:
            count = min(settings.workers, len(pending))
            for row in side_by_side(pending, count, _pretrain_here, (settings, corpus, out)):
                bar.advance(f"{row['model']} loss {row['loss']:.2f}")
    for name in MODELS:
        save_model(out, name, _pretrained(name, settings, corpus, out).model.eval(), corpus.tokenizer)


def _pretrain_here(settings: Settings, corpus: Corpus, out: Path) -> Work:
    quiet_transformers()
    return lambda name: _pretrain(name, settings, corpus, out)


def _pretrain(name: str, settings: Settings, corpus: Corpus, out: Path) -> Iterator[dict[str, Any]]:
    """Take the steps that are left; yields after each, the last one saved."""
    trainer, saved = _pretrained(name, settings, corpus, out), time.monotonic()
    for step in range(trainer.completed_steps, trainer.steps):
        loss = trainer.step(step)
        if step + 1 == trainer.steps or time.monotonic() - saved > _SECONDS_BETWEEN_PRETRAINING_STATES:
            save_state(_pretraining_path(out, name), trainer.state_dict())
            saved = time.monotonic()
        yield {"model": name, "loss": loss}


def _distil_all(settings: Settings, corpus: Corpus, out: Path, console: Console) -> None:
    done = {run: saved_metrics(out, run) for run in settings.runs}
    write_jsonl(out / "metrics.jsonl", [row for rows in done.values() for row in rows])
    pending = [run for run in settings.runs if not (run_directory(out, run) / "result.pt").exists()]
    if not pending:
        return
    total, finished = len(settings.runs) * settings.defaults.steps, sum(map(len, done.values()))
    count = min(settings.workers, len(pending))
    with phase(console, f"distil, {len(settings.runs)} runs", total, finished) as bar:
        for row in side_by_side(pending, count, _distil_here, (settings, corpus, out)):
            append_jsonl(out / "metrics.jsonl", row)
            bar.advance(f"{row['label']} seed {row['seed']} step {row['step'] + 1}")


def _distil_here(settings: Settings, corpus: Corpus, out: Path) -> Work:
    quiet_transformers()
    return open_experiment(settings, corpus, out).distil
