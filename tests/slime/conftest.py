"""`slime` in these tests: the drop-ins over a small stand-in for the modules of slime they touch."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[2]
STAND_IN = Path(__file__).parent / "stand_in"
sys.path[:0] = [str(ROOT / "slime_patch"), str(STAND_IN)]

settings.register_profile("slime", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("slime")


@pytest.fixture
def tracked():
    """What was logged to slime's trackers: (metrics, step key)."""
    from slime.observability import logging_utils

    logging_utils.LOGGED.clear()
    return logging_utils.LOGGED


@pytest.fixture
def megatron(monkeypatch):
    """Megatron's names for code that imports them as it runs, on one rank; the real one's import warns, which is an
    error here, so that tests with real ranks run programs of their own."""

    class ColumnParallelLinear:
        """An output layer's class."""

    core, tensor_parallel = ModuleType("megatron.core"), ModuleType("megatron.core.tensor_parallel")
    core.mpu = SimpleNamespace(get_tensor_model_parallel_rank=lambda: 0, get_tensor_model_parallel_world_size=lambda: 1)
    tensor_parallel.ColumnParallelLinear = ColumnParallelLinear
    for module in (ModuleType("megatron"), core, tensor_parallel):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return SimpleNamespace(mpu=core.mpu, ColumnParallelLinear=ColumnParallelLinear)
