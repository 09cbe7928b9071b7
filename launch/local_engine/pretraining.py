"""Next-token training of a toy model, resumable at every step.

Shapes: B rows, L tokens of a row, V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from .sampling import hidden_states, response_logits


class Pretrainer:
    """Model, optimizer and learning-rate schedule; the caller owns the loop, checkpoints and progress.

    The batch and learning rate of step i are pure functions of (seed, i), and no other random numbers are
    used: a run resumed from state_dict() equals one that never stopped.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        documents: Sequence[Sequence[int]],
        *,
        steps: int,
        batch_size: int,
        seq_len: int,
        lr: float,
        weight_decay: float,
        betas: tuple[float, float],
        grad_clip: float,
        warmup_steps: int,
        seed: int,
    ):
        """documents: ids of prompt + solution + eos, one list per problem.

        Raises ValueError for no documents, or a count below its minimum (1; seq_len: 2; warmup_steps: 0).
        """
        if not documents:
            raise ValueError("pre-training needs at least one document, got 0")
        minima = {"steps": (steps, 1), "batch_size": (batch_size, 1), "seq_len": (seq_len, 2)}
        for name, (value, minimum) in {**minima, "warmup_steps": (warmup_steps, 0)}.items():
            if value < minimum:
                raise ValueError(f"pre-training {name} must be >= {minimum}, got {value}")
        self.model = model
        self.steps = steps
        self.completed_steps = 0
        self._tokens = torch.tensor([token for document in documents for token in document])
        self._starts = torch.tensor([0, *(len(document) for document in documents)]).cumsum(0)
        self._batch_size, self._seq_len, self._seed = batch_size, seq_len, seed
        self._lr, self._warmup_steps, self._grad_clip = lr, warmup_steps, grad_clip
        decayed = [p for p in model.parameters() if p.ndim > 1]
        plain = [p for p in model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=lr,
            betas=betas,
            fused=True,
        )

    def lr_at(self, i: int) -> float:
        """Linear warm-up, then a cosine to a tenth of the peak."""
        if i < self._warmup_steps:
            return self._lr * (i + 1) / self._warmup_steps
        progress = (i - self._warmup_steps) / max(1, self.steps - self._warmup_steps)
        return self._lr * (0.55 + 0.45 * math.cos(math.pi * progress))

    def batch_at(self, i: int) -> torch.Tensor:
        """int64 [B, L]: rows packed with whole documents, drawn with replacement, the last one cut."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + i)
        return torch.stack([self._row(generator) for _ in range(self._batch_size)])

    def _row(self, generator: torch.Generator) -> torch.Tensor:
        parts, missing = [], self._seq_len
        while missing > 0:
            document = int(torch.randint(len(self._starts) - 1, (), generator=generator))
            start, end = self._starts[document : document + 2].tolist()
            parts.append(self._tokens[start : min(end, start + missing)])
            missing -= len(parts[-1])
        return torch.cat(parts)

    def step(self, i: int) -> float:
        """Takes step i and returns its mean loss in nats per token, before the update.

        Raises ValueError when i is not the next step.
        """
        if i != self.completed_steps:
            raise ValueError(f"pre-training step must be {self.completed_steps}, the next one, got {i}")
        batch = self.batch_at(i).to(self.model.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr_at(i)
        logits = self.model.lm_head(hidden_states(self.model, batch[:, :-1]))
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._grad_clip)
        self.optimizer.step()
        self.completed_steps = i + 1
        return loss.item()

    def state_dict(self) -> dict[str, Any]:
        """Tensors are the live ones, as in torch: copy or save them before the next step."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "completed_steps": self.completed_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.completed_steps = state["completed_steps"]


@torch.no_grad()
def solution_loss(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    solution_ids: Sequence[Sequence[int]],
    batch_size: int = 32,
) -> float:
    """Mean loss in nats over all tokens of the solutions (eos included), given their prompts.

    Raises ValueError when there is no solution token.
    """
    total, count = 0.0, 0
    for start in range(0, len(prompt_ids), batch_size):
        prompts, solutions = prompt_ids[start : start + batch_size], solution_ids[start : start + batch_size]
        sequences = [[*prompt, *solution] for prompt, solution in zip(prompts, solutions, strict=True)]
        logits = response_logits(model, sequences, [len(prompt) for prompt in prompts])
        targets = torch.tensor([token for solution in solutions for token in solution], device=model.device)
        total += F.cross_entropy(logits, targets, reduction="sum").item()
        count += len(targets)
    if count == 0:
        raise ValueError("the loss on solutions needs at least one solution token, got 0")
    return total / count
