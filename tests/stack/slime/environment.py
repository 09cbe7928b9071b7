"""The interpreter and environment variables of every process that imports slime, Megatron or SGLang."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .checkouts import Checkout

CPU_FOLDER = Path(__file__).parent / "cpu"
SGL_KERNEL = Path(__file__).parents[1] / "sglang" / "stub"


def interpreter() -> str:
    """SLIME_PYTHON, a Python with slime's requirements, as an absolute path; its symbolic links are its environment."""
    name = os.environ.get("SLIME_PYTHON", "")
    found = shutil.which(name)
    if found is None:
        raise ValueError(f"SLIME_PYTHON {name!r} is no Python; tests/stack/slime/install.sh makes one")
    return str(Path(found).absolute())


def megatron() -> Path | None:
    """MEGATRON_DIR: a Megatron-LM checkout with slime's megatron.patch, or None."""
    name = os.environ.get("MEGATRON_DIR")
    if not name:
        return None
    path = Path(name).resolve()
    if not (path / "megatron" / "training").is_dir():
        raise ValueError(f"MEGATRON_DIR {path} is no Megatron-LM checkout: no megatron/training in it")
    return path


def environment(checkout: Checkout, *folders: Path, **variables: str) -> dict[str, str]:
    """os.environ without proxies; PYTHONPATH: folders, stand-ins for what has no CPU build, the checkout."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    clean |= {
        "PYTHONPATH": os.pathsep.join(map(str, [*folders, CPU_FOLDER, SGL_KERNEL, checkout.path])),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return clean | variables


def cpu_environment(checkout: Checkout) -> dict[str, str]:
    """For a process that trains: CPU stands in for CUDA in it and in the Ray workers that inherit its environment."""
    return environment(
        checkout,
        *([megatron()] if megatron() else []),
        OPD_CPU_SHIM="1",
        SLIME_ACCELERATOR="cpu",
        RAY_AUTH_MODE="disabled",
        RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
        SGLANG_USE_CPU_ENGINE="1",
        TORCHDYNAMO_DISABLE="1",
        CUDA_DEVICE_MAX_CONNECTIONS="1",
        WANDB_MODE="disabled",
    )
