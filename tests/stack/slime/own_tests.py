"""slime's own tests that need no GPU, run in a checkout: what each test ended with."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from .checkouts import Checkout
from .environment import environment, interpreter

RUNNER = Path(__file__).parent / "inside" / "run_tests.py"
NEEDS_GPU = re.compile(r"^NUM_GPUS\s*=\s*[1-9]", re.MULTILINE)
# A minute and more each; `long=True` runs them too.
LONG = (
    *("test_ppo_logprob_entropy.py", "test_metric_report_dist.py", "test_advantage_whiten_cp.py"),
    "test_chunked_gae.py",
)
LIMIT_S = 3600

Outcomes = dict[str, str]


def cpu_test_files(checkout: Checkout, long: bool = False) -> list[str]:
    """Test files that do not declare a GPU, as slime's own test-suite declares them: NUM_GPUS above 0."""
    folder = checkout.path / "tests"
    files = [path for path in sorted(folder.rglob("test_*.py")) if long or path.name not in LONG]
    return [str(path.relative_to(checkout.path)) for path in files if not NEEDS_GPU.search(path.read_text("utf-8"))]


def run_tests(checkout: Checkout, files: list[str], *folders: Path, **variables: str) -> tuple[Outcomes, str]:
    """test -> passed, failed, error or skipped (a file that never finished stands for its tests); what was printed.

    folders: come first on PYTHONPATH. variables: of the environment.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        done = subprocess.run(
            [interpreter(), str(RUNNER), str(result), *files],
            cwd=checkout.path,
            env=environment(checkout, *folders, **variables),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
        )
        assert result.is_file(), done.stdout[-3000:] + done.stderr[-3000:]
        by_file = json.loads(result.read_text(encoding="utf-8"))
    outcomes = {test: outcome for file in by_file.values() for test, outcome in file.items()}
    return outcomes, done.stdout


def summary(outcomes: Outcomes) -> str:
    """As in `546 passed, 3 failed`."""
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(outcomes.values()).items()))
