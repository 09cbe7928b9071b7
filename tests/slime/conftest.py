"""`slime` in these tests: the drop-ins over a small stand-in for the modules of slime they touch."""

import sys
from pathlib import Path

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
