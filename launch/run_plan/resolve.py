"""Settings with everything filled in that is the same for all runs of a suite."""

from __future__ import annotations

import hashlib
import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .environment import Settings
from .kinds import split_list
from .model_paths import local_model, student_torch_dist
from .paths import absolute

_PATHS = (
    *("OUTPUT_ROOT", "LOG_DIR", "SLIME_DIR", "MEGATRON_LM_DIR", "MODELS_DIR"),
    *("PROMPT_DATA", "COMMON_CONTEXT", "BASELINE_METRICS"),
)


def resolve(s: Settings, directory: Path) -> Settings:
    """directory: SUITE_DIR. Raises ValueError for two settings that contradict each other."""
    v = dict(s.values)
    v["METHOD_LIST"] = s[_one_of(s, ("METHOD_LIST", "RUN_LIST", "OPD_BUDGET_MASK"))]
    v["SEEDS"] = s[_one_of(s, ("SEED", "SEEDS"))]
    if v["SEED_LABEL"] and len(split_list(v["SEEDS"])) > 1:
        raise ValueError(f"SEED_LABEL {v['SEED_LABEL']!r} with SEEDS {v['SEEDS']!r}: it names one seed")
    v["TAG"] = directory.name
    v["WANDB_GROUP"] = v["WANDB_GROUP"] or v["TAG"]
    v |= {name: absolute(v[name]) for name in _PATHS}
    v["DIAGNOSTICS_PYTHON"] = v["DIAGNOSTICS_PYTHON"] or v["PYTHON"]
    v |= {name: absolute(v[name]) for name in ("PYTHON", "DIAGNOSTICS_PYTHON") if "/" in v[name]}
    if v["SGLANG_CUDA_GRAPH_MAX_BS"] == "0":
        v["SGLANG_CUDA_GRAPH_MAX_BS"] = ""
    v["WORKER_NUM_GPUS"] = v["WORKER_NUM_GPUS"] or v["ACTOR_NUM_GPUS_PER_NODE"]
    v |= {name: local_model(v[name], v["MODELS_DIR"]) for name in ("TEACHER_MODEL", "STUDENT_HF")}
    v["SEQUENCE_PARALLEL"] = v["SEQUENCE_PARALLEL"] or str(int(int(v["TENSOR_PARALLEL"]) > 1))
    v["TRAIN_COMMAND"] = v["TRAIN_COMMAND"] or shlex.join([v["PYTHON"], "train_opd.py"])
    v["TEACHER_COMMAND"] = v["TEACHER_COMMAND"] or shlex.join([v["PYTHON"], "-m", "sglang.launch_server"])
    v["RAY_TEMP_DIR"] = absolute(v["RAY_TEMP_DIR"]) or _short_folder(directory)
    if v["BACKEND"] == "local":
        v["NUM_ROLLOUT"] = v["LOCAL_STEPS"]
    else:
        v["STUDENT_TORCH_DIST"] = student_torch_dist(v)
        v["INPUT_KEY"] = v["INPUT_KEY"] or "prompt"
    return replace(s, values=v)


def _one_of(s: Settings, names: Sequence[str]) -> str:
    """The one that the environment set, else the pair file, else the first. Raises ValueError for two in one place."""
    for somewhere in (s.given, s.from_pair):
        found = [name for name in names if name in somewhere]
        if len(found) > 1:
            raise ValueError(f"{found[0]} {s[found[0]]!r} and {found[1]} {s[found[1]]!r} say the same thing; set one")
        if found:
            return found[0]
    return names[0]


def _short_folder(directory: Path) -> str:
    """A folder of this suite and user alone, short enough for Ray's sockets."""
    digest = hashlib.sha256(f"{os.getuid()} {directory}".encode()).hexdigest()[:8]
    return str(Path(tempfile.gettempdir()) / f"ray-{digest}")
