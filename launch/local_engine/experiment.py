"""The distillation runs over one pre-trained pair: what each starts from, does, and leaves behind.

Built alike in every process that takes part; each run is a pure function of the settings.
"""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ta_opd import Options
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from .corpus import Corpus
from .frozen import Distances, FrozenContexts
from .opd import OPDRun
from .pretraining import solution_loss
from .prompts import Problem, same_prompt
from .rollout import Responses, sample
from .settings import Settings
from .store import load_state, save_state
from .suite import Run

_FROZEN_SEED_OFFSET = 10_000


@dataclass(frozen=True)
class Baseline:
    """What the runs are measured against. frozen: held-out contexts. first_rollout: by seed, the responses that every
    method sees in its first step. teacher_loss, student_loss: on held-out solutions before training, nats a token."""

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


class Experiment:
    """frozen, first_rollout: as in Baseline."""

    def __init__(
        self, settings: Settings, corpus: Corpus, out: Path, teacher: PreTrainedModel, student: PreTrainedModel
    ):
        self.teacher, self.student = teacher, student
        self._settings, self._corpus, self._out, self._defaults = settings, corpus, out, settings.defaults
        self.frozen = self._freeze(self._frozen_responses(), corpus.held_out)
        self.first_rollout = {
            seed: self._freeze(self._first_responses(seed), corpus.train)
            for seed in sorted({run.seed for run in settings.runs})
        }

    def _freeze(self, responses: Responses, problems: Sequence[Problem]) -> FrozenContexts:
        options = self._settings.options
        prompts = [same_prompt(problems[index]) for index in responses.problem]
        number = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
        return FrozenContexts.build(
            responses,
            self.student,
            self.teacher,
            options.topk_metrics_k,
            options.score_variant,
            self._defaults.micro_batch,
            [number[prompt] for prompt in prompts],
        )

    def _frozen_responses(self):
        defaults, config = self._defaults, self.student.config
        return sample(
            self.student,
            range(min(defaults.frozen_contexts, len(self._corpus.held_out))),
            self._corpus.held_out_prompts,
            defaults.max_new_tokens,
            defaults.base_seed + _FROZEN_SEED_OFFSET,
            config.eos_token_id,
            config.pad_token_id,
        )

    def frozen_records(self) -> list[dict[str, Any]]:
        """The frozen contexts in token ids, one record each, for tools outside the engine."""
        frozen, problems = self.frozen, self._corpus.held_out
        responses, end = frozen.responses, self.student.config.eos_token_id
        rows = zip(responses.problem, responses.prompt_ids, responses.response_ids, frozen.clusters, strict=True)
        return [
            {
                "sample_index": index,
                "group_index": cluster,
                "prompt_tokens": prompt,
                "response_tokens": response,
                "prompt": problems[problem].prompt,
                "truncated": response[-1] != end,
            }
            for index, (problem, prompt, response, cluster) in enumerate(rows)
        ]

    def _first_responses(self, seed: int):
        return self._opd_run(Run(self._settings.runs[0].method, seed)).responses(0)

    def _opd_run(self, run: Run) -> OPDRun:
        return OPDRun(
            copy.deepcopy(self.student),
            self.teacher,
            self._corpus.train_prompts,
            run_options(self._settings.options, run),
            self._defaults,
            run.seed,
            self._directory(run) / "token_bank",
        )

    def distil(self, run: Run) -> Iterator[dict[str, Any]]:
        """Take the steps that are left of a run; yields each one's metrics once its state is saved."""
        directory = self._directory(run)
        opd, metrics = self._opd_run(run), []
        if state := load_state(directory / "state.pt", self._settings.device):
            opd.load_state_dict(state["opd"])
            metrics = state["metrics"]
        for step in range(opd.completed_steps, self._defaults.steps):
            metrics.append(run.identity | opd.step(step))
            save_state(directory / "state.pt", {"opd": opd.state_dict(), "metrics": metrics})
            yield metrics[-1]
        started = time.process_time()
        result = {
            "metrics": metrics,
            "held_out": tuple(self.frozen.distances(opd.student)),
            "rollout": tuple(self.first_rollout[run.seed].distances(opd.student)),
            "solution_loss": self.solution_loss(opd.student),
        }
        result["seconds"] = sum(row["seconds"] for row in metrics) + time.process_time() - started
        save_model(self._out, run.directory, opd.student, self._corpus.tokenizer)
        save_state(directory / "result.pt", result)
        (directory / "state.pt").unlink(missing_ok=True)

    def result(self, run: Run) -> RunResult:
        """Of a finished run."""
        result = load_state(self._directory(run) / "result.pt")
        assert result is not None, f"{run.directory} is not finished"
        return RunResult(
            run,
            result["metrics"],
            Distances(*result["held_out"]),
            Distances(*result["rollout"]),
            result["solution_loss"],
            result["seconds"],
        )

    def baseline(self) -> Baseline:
        losses = [self.solution_loss(model) for model in (self.teacher, self.student)]
        return Baseline(self.frozen, self.first_rollout, *losses)

    def solution_loss(self, model: PreTrainedModel) -> float:
        """Mean loss on the real solutions of the held-out problems, nats a token."""
        return solution_loss(model, self._corpus.held_out_prompts, self._corpus.held_out_solutions)

    def _directory(self, run: Run) -> Path:
        return run_directory(self._out, run)


def run_directory(out: Path, run: Run) -> Path:
    return out / "runs" / run.directory


def saved_metrics(out: Path, run: Run) -> list[dict[str, Any]]:
    """The metrics of the steps a run has finished."""
    for name in ("result.pt", "state.pt"):
        if saved := load_state(run_directory(out, run) / name):
            return saved["metrics"]
    return []


def run_options(options: Options, run: Run) -> Options:
    """The settings' options with this run's selector, ratio and seed."""
    return replace(
        options,
        budget_mask=run.method.mask,
        budget_ratio=run.method.ratio,
        budget_mask_seed=options.budget_mask_seed + run.seed,
    )


def save_model(out: Path, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Model and tokenizer in transformers' form as models/<name>; a whole directory or none."""
    final = out / "models" / name
    if final.exists():
        return
    temporary = final.with_name(f".{name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    temporary.rename(final)
