"""`slime` in these tests: the drop-ins over a small stand-in for the modules of slime they touch."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "slime_patch"), str(Path(__file__).parent / "stand_in")]
