"""On-policy distillation of one student with one method: sample, score, select, update.

A step is a pure function of the student, the optimizer and (seed, step): nothing else is random.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ta_opd import (
    LOSSES,
    LossInputs,
    Options,
    Selection,
    TAIDSchedule,
    divergences,
    masked_mean,
    select_tokens,
)
from ta_opd.token_bank.bank import write_rollout
from ta_opd.token_bank.columns import Rollout, token_columns
from torch import Tensor
from transformers import PreTrainedModel

from .defaults import EngineDefaults
from .rollout import Responses, Scored, sample, sampled_logprob, score


class OPDRun:
    """One method, one seed. The caller owns the loop; state_dict() after a step resumes it exactly."""

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        prompt_ids: list[list[int]],
        options: Options,
        defaults: EngineDefaults,
        seed: int,
        token_bank: Path,
    ):
        self.student, self.teacher = student, teacher
        self._prompt_ids, self._options, self._defaults, self._seed = prompt_ids, options, defaults, seed
        self._token_bank = token_bank
        self.optimizer = torch.optim.AdamW(
            student.parameters(),
            lr=defaults.lr,
            betas=defaults.betas,
            weight_decay=defaults.weight_decay,
        )
        self.schedule = TAIDSchedule(
            defaults.steps, options.taid_t_start, options.taid_t_end, options.taid_alpha, options.taid_beta
        )
        self.completed_steps = 0

    def responses(self, step: int) -> Responses:
        """The rollout of a step: distinct prompts and their sampled responses, the same for every method at step 0."""
        seed = rollout_seed(self._seed, step)
        count = min(self._defaults.responses_per_step, len(self._prompt_ids))
        chosen = torch.randperm(len(self._prompt_ids), generator=torch.Generator().manual_seed(seed))[:count]
        config = self.student.config
        return sample(
            self.student,
            chosen.tolist(),
            self._prompt_ids,
            self._defaults.max_new_tokens,
            seed,
            config.eos_token_id,
            config.pad_token_id,
        )

    def step(self, step: int) -> dict[str, float]:
        """Take the next step, write its token bank, and return its metrics."""
        assert step == self.completed_steps, f"step {step} after {self.completed_steps} completed ones"
        started = time.process_time()
        options, defaults, responses = self._options, self._defaults, self.responses(step)
        student_logits, teacher_logits = (
            responses.fixed_logits(model, defaults.micro_batch) for model in (self.student, self.teacher)
        )
        scored = score(
            student_logits, teacher_logits, responses.token_ids, options.topk_metrics_k, options.score_variant
        )
        mask = torch.ones(len(scored.student_logprob), dtype=torch.int8)
        known = scored.student_logprob.isfinite() & scored.teacher_logprob.isfinite()
        selection = select_tokens(scored.scores, mask, responses.lengths, options, rollout_id=step, known=known)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(responses, teacher_logits, scored, selection)
        if LOSSES[options.loss].interpolated:
            self._update_schedule(student_logits, teacher_logits, selection, step)
        norm = torch.nn.utils.clip_grad_norm_(self.student.parameters(), defaults.grad_clip)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(f"step {step}: loss {loss}, gradient norm {float(norm)}; try a smaller --lr")
        self.optimizer.step()
        self.completed_steps = step + 1
        self._write_token_bank(step, responses, scored, selection, mask)
        return self._metrics(step, loss, float(norm), responses, scored, selection) | {
            "seconds": time.process_time() - started
        }

    def _backward(self, responses: Responses, teacher_logits: Tensor, scored: Scored, selection: Selection) -> float:
        """Accumulate the gradient of the whole batch's loss, a micro-batch at a time; returns the loss."""
        options, device = self._options, teacher_logits.device
        whole = selection.kept if options.normaliser == "selected" else len(responses.problem)
        total, start = 0.0, 0
        for part in responses.micro_batches(self._defaults.micro_batch):
            rows = slice(start, start + len(part.token_ids))
            start = rows.stop
            keep = selection.keep[rows].to(device)
            losses = self._token_losses(part, teacher_logits[rows], scored.teacher_logprob[rows].to(device), keep)
            loss = masked_mean(losses, keep, part.lengths.to(device), normaliser=options.normaliser, denominator=whole)
            loss.backward()
            total += float(loss.detach())
        return total

    def _token_losses(self, part: Responses, teacher_logits: Tensor, teacher_logprob: Tensor, keep: Tensor) -> Tensor:
        """Losses [N] of a micro-batch, 0 where not kept: those rows cost nothing and cannot spoil a gradient."""
        student_logits = part.logits(self.student)[keep]
        inputs = LossInputs(
            student_logits,
            teacher_logits[keep],
            sampled_logprob(student_logits, part.token_ids.to(keep.device)[keep]),
            teacher_logprob[keep],
            None,
            self.schedule.t,
        )
        kept = LOSSES[self._options.loss](inputs, self._options)
        return kept.new_zeros(len(keep)).masked_scatter(keep, kept)

    def _update_schedule(self, student_logits, teacher_logits, selection, step):
        compared = divergences.taid_cross_entropy(
            student_logits,
            teacher_logits,
            self.schedule.t,
            space=self._options.taid_space,
            temperature=self._options.loss_temperature,
        )
        if selection.kept:
            self.schedule.update(float(masked_mean(compared.cpu(), selection.keep)), step)

    def _metrics(self, step, loss, norm, responses, scored, selection) -> dict[str, Any]:
        keep = selection.keep
        difference = scored.student_logprob - scored.teacher_logprob
        return {
            "step": step,
            "loss": loss,
            "grad_norm": norm,
            "reverse_kl": float(difference.mean()),
            "reverse_kl_selected": float(difference[keep].mean()) if selection.kept else None,
            "keep_ratio": selection.kept / selection.valid,
            "kept_tokens": selection.kept,
            "valid_tokens": selection.valid,
            "not_scored": selection.not_scored,
            "kept_by_tie_break": selection.tied,
            "degenerate_axes": list(selection.degenerate),
            "entropy": float(scored.scores.entropy.mean()),
            "disagreement": float(scored.scores.disagreement.mean()),
            "compatibility": float(scored.scores.compatibility.mean()),
            "response_length": float(responses.lengths.float().mean()),
            "taid_t": self.schedule.t if LOSSES[self._options.loss].interpolated else None,
        }

    def _write_token_bank(self, step, responses, scored, selection, mask):
        options = replace(self._options, token_bank_raw_topk=True)
        rollout = Rollout(
            rollout_id=step,
            seed=self._seed,
            supports=scored.supports,
            token_ids=responses.token_ids,
            student_logprob=scored.student_logprob,
            teacher_logprob=scored.teacher_logprob,
            loss_mask=mask,
            lengths=responses.lengths,
            prompt_lengths=responses.prompt_lengths,
            sample_index=torch.arange(len(responses.problem)),
            group_index=torch.tensor(responses.problem),
            truncated=torch.tensor([ids[-1] != self.student.config.eos_token_id for ids in responses.response_ids]),
        )
        write_rollout(self._token_bank, step, token_columns(rollout, scored.scores, selection, options), options)

    def state_dict(self) -> dict[str, Any]:
        return {
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "completed_steps": self.completed_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.completed_steps = state["completed_steps"]


def rollout_seed(seed: int, step: int) -> int:
    """A seed for the rollout of one step, far from every other (seed, step)'s."""
    return (seed * 1_000_003 + step * 7919 + 104_729) % 2**63
