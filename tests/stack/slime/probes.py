"""Runs a script of inside/ with a checkout's slime and reads the last line it prints."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .checkouts import Checkout
from .environment import cpu_environment, environment, interpreter

INSIDE = Path(__file__).parent / "inside"
LIMIT_S = 900


def probe(checkout: Checkout, script: str, *arguments: str, cpu_stands_in: bool = False) -> str:
    """What the script found. cpu_stands_in: with Megatron-LM, and CPU for CUDA. AssertionError if the script fails."""
    variables = cpu_environment(checkout) if cpu_stands_in else environment(checkout)
    done = subprocess.run(
        [interpreter(), "-W", "ignore", str(INSIDE / script), *arguments],
        env=variables,
        cwd=checkout.path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done.stdout.strip().splitlines()[-1]
