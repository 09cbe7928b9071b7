"""First import of every Python process whose PYTHONPATH holds this folder; with OPD_CPU_SHIM=1 CPU stands in for CUDA.

Each patch waits for its module: it runs once, right after the module's own code, whoever imports it. A module that a
version of slime does not have is simply never patched.
"""

import importlib.util
import os
import sys

from cpu_patches import ALWAYS, CPU_FOR_CUDA


class PatchOnImport:
    """A meta path finder that runs patches[name](module) after the module `name` has been executed."""

    def __init__(self, patches):
        self.waiting = dict(patches)

    def find_spec(self, name, path=None, target=None):
        patch = self.waiting.pop(name, None)
        if patch is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_patch(module):
            execute(module)
            patch(module)

        spec.loader.exec_module = execute_and_patch
        return spec


sys.meta_path.insert(0, PatchOnImport(ALWAYS | (CPU_FOR_CUDA if os.environ.get("OPD_CPU_SHIM") == "1" else {})))
