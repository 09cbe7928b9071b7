"""The real SGLang server on a CPU, in SGLang's own virtual environment: the flags of `python -m sglang.launch_server`.

What has no CPU build is replaced before SGLang is imported: sgl-kernel by the package in stub/, torchvision's compiled
operators by their bare signatures. SGLang spawns its processes, and each of them runs this module's top level first.
"""

import ctypes
import importlib.util
import os
import signal
import sys
from pathlib import Path

import torch

os.environ.setdefault("SGLANG_USE_CPU_ENGINE", "1")
sys.path.insert(0, str(Path(__file__).parent / "stub"))

# Importing SGLang's other models takes a fifth of its start, and many need kernels that are not here.
MODELS = Path(importlib.util.find_spec("sglang").origin).parent / "srt" / "models"
os.environ["SGLANG_DISABLED_MODEL_ARCHS"] = ",".join(path.stem for path in MODELS.glob("*.py") if path.stem != "qwen3")

# The library object must live as long as the process: its end takes the operators away again.
TORCHVISION = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    TORCHVISION.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    # A test run that is killed cannot stop its servers: they end with it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    from sglang.launch_server import run_server
    from sglang.srt.server_args import prepare_server_args

    run_server(prepare_server_args(sys.argv[1:]))
