"""What a provider of losses is."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from torch import Tensor

from .problem import Problem

Outputs = tuple[Tensor, ...]


class Unavailable(Exception):
    """Why a provider cannot be run here."""


@dataclass(frozen=True)
class Provider:
    """losses: loss to the function from logits to its outputs, [N] each; a sampled log-prob comes before the entropy.

    mean: the outputs are one number each, the mean over the kept tokens, for want of a form per token.
    own_arithmetic: computes in the logits' dtype, so that no accuracy is asked of it below float32.
    value_tolerance, gradient_tolerance: relative error allowed against float64.
    """

    name: str
    losses: Mapping[str, Callable[[Problem], Outputs]]
    mean: bool = False
    own_arithmetic: bool = False
    value_tolerance: float = 1e-2
    gradient_tolerance: float = 1e-2


def bare_import(package: str, version: str, module: str) -> ModuleType:
    """One module of an installed package, none of whose __init__ files are run.

    Raises Unavailable where the package, or what the module itself imports, is not installed. version is the one that
    this adapter was written against; another one is used too.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise Unavailable(f"{package.replace('_', '-')} is not installed (written against {version})")
    folder, parts = Path(spec.origin).parent, module.split(".")
    names = [package, *(".".join((package, *parts[:i])) for i in range(1, len(parts)))]
    for name in names:
        if name not in sys.modules:
            shell = ModuleType(name)
            shell.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
            sys.modules[name] = shell
    try:
        return import_module(f"{package}.{module}")
    except ImportError as error:
        raise Unavailable(f"{package}.{module} does not import: {error}") from error
