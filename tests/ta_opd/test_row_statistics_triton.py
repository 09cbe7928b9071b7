"""The Triton kernels' own tests are in triton_kernel_cases.py. They run in a process of their own: without a GPU in
Triton's interpreter, which has to be chosen before triton is first imported."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed: pip install triton")
def test_the_triton_kernels_pass_their_cases():
    environment = dict(os.environ)
    environment.pop("TRITON_INTERPRET", None)
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    cases = Path(__file__).with_name("triton_kernel_cases.py")
    done = subprocess.run([*command, cases], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
