"""Whether a provider computes the loss: against float64, on rows that are not the timed ones, in poisoned memory."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .problem import FORWARD_ONLY, Problem
from .provider import Outputs, Provider
from .reference import reference


@dataclass(frozen=True)
class Errors:
    """Relative errors, NaN where anything is NaN; None for the gradient of a loss that is only evaluated.

    value, gradient: the greatest over rows, of the gradient of a row's norm; a row whose gradient must be 0 counts what
    it is instead. near_value: the greatest over nearly converged rows, None of a mean. near_gradient: the difference's
    norm over the gradient's, of all these rows together.
    """

    value: float
    gradient: float | None
    near_value: float | None
    near_gradient: float | None

    def complaint(self, provider: Provider, dtype: torch.dtype) -> str | None:
        """What is wrong, None where both are within the provider's tolerance."""
        bounds = {"value": provider.value_tolerance, "gradient": provider.gradient_tolerance}
        if provider.own_arithmetic and dtype != torch.float32:
            bounds = dict.fromkeys(bounds, math.inf)
        for name, bound in bounds.items():
            error = getattr(self, name)
            if error is not None and not error <= bound:
                return f"wrong: relative error of the {name} {error:.3g}, above {bound:g}"
        return None


def weighted_sum(provider: Provider, problem: Problem, outputs: Outputs) -> Tensor:
    """What is differentiated: the kept tokens' losses by their weights, or a provider's own mean."""
    if provider.mean:
        return sum(outputs)
    if problem.all_kept:
        return sum((output * problem.weights).sum() for output in outputs)
    return sum((torch.where(problem.keep, output, 0) * problem.weights).sum() for output in outputs)


def check(provider: Provider, problem: Problem) -> Errors:
    """Runs the provider in memory that is NaN where it was not written."""
    weights = problem.keep / problem.keep.sum() if provider.mean else problem.weights
    expected, expected_gradient = reference(problem, weights.double())
    logits = problem.student.requires_grad_(problem.loss not in FORWARD_ONLY)
    logits.grad = None
    before = logits.detach().clone()
    with poisoned_memory():
        outputs = provider.losses[problem.loss](problem)
        if logits.requires_grad:
            weighted_sum(provider, problem, outputs).backward()
    if not torch.equal(before, logits.detach()):
        return Errors(math.nan, math.nan, math.nan, math.nan)
    kept = problem.keep.nonzero()[:, 0]
    near = problem.near[kept]
    if provider.mean:
        expected = [(value * weights).sum()[None] for value in expected]
        outputs, near_outputs = tuple(output.reshape(1) for output in outputs), None
    else:
        expected = [value[kept] for value in expected]
        outputs, near_outputs = tuple(output[kept] for output in outputs), near
    errors = [(got.detach().double() - want).abs() / want.abs() for got, want in zip(outputs, expected, strict=True)]
    value = torch.stack(errors).amax(0)
    near_value = None if near_outputs is None else _max(value[near])
    if not logits.requires_grad:
        return Errors(_max(value), None, near_value, None)
    size = expected_gradient.norm(dim=-1)
    wrong = (logits.grad.double() - expected_gradient).norm(dim=-1)
    logits.grad = None
    near_rows = kept[near]
    near_gradient = float(wrong[near_rows].norm() / size[near_rows].norm()) if len(near_rows) else None
    return Errors(_max(value), _max(wrong / torch.where(size > 0, size, 1)), near_value, near_gradient)


def _max(values: Tensor) -> float | None:
    """NaN where one is; None of none."""
    return float(values.max()) if len(values) else None


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """torch.empty and its kin give NaN, as torch has it where deterministic algorithms are asked for."""
    assert torch.utils.deterministic.fill_uninitialized_memory
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of operations without a deterministic form, which may be used all the same
        torch.set_deterministic_debug_mode("warn")
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode("default")
