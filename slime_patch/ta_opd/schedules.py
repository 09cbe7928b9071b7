"""TAID's interpolation schedule: how far the target has moved from the student (t = 0) to the teacher (t = 1)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


def check_taid(t_start: float, t_end: float, alpha: float, beta: float) -> None:
    """Raises ValueError unless 0 <= t_start < 1, t_start <= t_end, 0 < t_end <= 1, 0 <= alpha <= 1, 0 <= beta < 1."""
    for name, value, good, allowed in (
        ("t-start", t_start, 0 <= t_start < 1, "0..1 (1 excluded)"),
        ("t-end", t_end, 0 < t_end <= 1 and t_start <= t_end, f"{t_start}..1 (0 excluded)"),
        ("alpha", alpha, 0 <= alpha <= 1, "0..1"),
        ("beta", beta, 0 <= beta < 1, "0..1 (1 excluded)"),
    ):
        if not good:
            raise ValueError(f"--opd-taid-{name} {value} is outside {allowed}")


@dataclass
class TAIDSchedule:
    """The adaptive schedule of TAID's released code (arXiv 2501.16937); a state_dict resumes it exactly.

    t_lin = t_start + (t_end - t_start) step / total, and after every loss J but the first
    r = (J_prev - J) / (J_prev + 1e-15), m <- beta m + (1 - beta) r,
    t <- min(t_end, max(t_lin, t + alpha sigmoid(m) (1 - t))).
    J must be the same number on every rank. alpha = 0 leaves the linear schedule.
    """

    total_steps: int
    t_start: float = 0.4
    t_end: float = 1.0
    alpha: float = 5e-4
    beta: float = 0.99
    t: float = math.nan
    momentum: float = 0.0
    previous_loss: float = math.inf

    def __post_init__(self) -> None:
        check_taid(self.t_start, self.t_end, self.alpha, self.beta)
        if self.total_steps < 1:
            raise ValueError(f"a TAID schedule over {self.total_steps} steps; at least 1 is needed")
        if math.isnan(self.t):
            self.t = self.t_start

    def update(self, loss: float, step: int) -> float:
        """Take J, the masked mean of taid_cross_entropy at step (counted from 0), and return the next t.

        Raises ValueError on a loss that is not finite: it would poison every later t.
        """
        if not math.isfinite(loss):
            raise ValueError(f"TAID's schedule got a loss of {loss} at step {step}")
        linear = self.t_start + (self.t_end - self.t_start) * min(step / self.total_steps, 1.0)
        if self.alpha == 0:
            self.t = max(self.t, linear)
        elif math.isfinite(self.previous_loss):
            improvement = (self.previous_loss - loss) / (self.previous_loss + 1e-15)
            self.momentum = self.beta * self.momentum + (1 - self.beta) * improvement
            move = self.alpha * (1 + math.tanh(self.momentum / 2)) / 2 * (1 - self.t)
            self.t = min(self.t_end, max(linear, self.t + move))
        self.previous_loss = loss
        return self.t

    def state_dict(self) -> dict[str, float]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Raises ValueError when the state was saved under other settings."""
        for name in ("total_steps", "t_start", "t_end", "alpha", "beta"):
            if state[name] != getattr(self, name):
                raise ValueError(f"a TAID state with {name} {state[name]} does not fit {getattr(self, name)}")
        self.t, self.momentum = state["t"], state["momentum"]
        self.previous_loss = state["previous_loss"]
