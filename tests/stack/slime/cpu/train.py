"""One of slime's train entries inside a small Ray of its own: train.py ENTRY.py RAY_FOLDER FLAGS..."""

import runpy
import sys
from pathlib import Path

import ray

if __name__ == "__main__":
    entry, folder = sys.argv[1:3]
    # The GPUs are counted, never used: one for the actor, one for the rollout engine that runs elsewhere.
    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=2,
        include_dashboard=False,
        object_store_memory=300 << 20,
        _temp_dir=folder,
    )
    sys.path.insert(0, str(Path(entry).parent))
    sys.argv = [entry, *sys.argv[3:]]
    runpy.run_path(entry, run_name="__main__")
