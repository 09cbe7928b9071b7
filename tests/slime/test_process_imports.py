"""Each process imports what it has: the rollout side nothing of a trainer, the trainer nothing of a server's client."""

import subprocess
import sys

from .conftest import ROOT

CLIENT = ("aiohttp", "msgspec", "tenacity", "pyarrow", "polars", "transformers", "sglang")
ENGINES = ("megatron", "ray", "sglang", "transformers", "slime.backends", "train")

PROGRAM = """
import importlib, sys

class Refuse:
    blocked = {blocked!r}

    def find_spec(self, name, path=None, target=None):
        if any(name == blocked or name.startswith(blocked + ".") for blocked in self.blocked):
            raise ImportError(f"{{name}} is not there in this process")

sys.meta_path.insert(0, Refuse())
sys.path[:0] = {paths!r}
for module in {modules!r}:
    importlib.import_module(module)
{then}
"""


def imports(modules, blocked, then=""):
    paths = [str(ROOT / "slime_patch"), str(ROOT / "tests" / "slime" / "stand_in")]
    program = PROGRAM.format(blocked=blocked, paths=paths, modules=modules, then=then)
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_rollout_side_imports_no_trainer_no_engine_and_no_library_before_it_is_needed():
    modules = (
        "slime.rollout.on_policy_distillation",
        "slime.rollout.opd_rewards",
        "slime.rollout.tip_compat",
        "slime.utils.opd_versions",
        "ta_opd.teacher.client",
        "ta_opd.token_bank.bank",
    )
    then = """
Refuse.blocked = tuple(name for name in Refuse.blocked if name != "slime.rollout.sglang_rollout")
import slime.rollout.sglang_rollout as upstream
before = dict(vars(upstream))
importlib.import_module("slime.rollout.opd_generate")
assert dict(vars(upstream)) == before, "slime's module was patched"
"""
    imports(modules, (*ENGINES, *CLIENT, "slime.rollout.sglang_rollout", "slime.rollout.rm_hub"), then)


def test_the_train_side_imports_no_client_no_rollout_and_not_megatron_before_it_is_set_up():
    modules = (
        "slime.backends.megatron_utils.opd_hooks",
        "slime.backends.megatron_utils.opd_loss",
        "slime.backends.megatron_utils.opd_wraps",
        "slime.utils.opd_versions",
    )
    then = """
from argparse import Namespace
from slime.backends.megatron_utils import actor, model
from slime.utils.opd_versions import PATHS
before = dict(vars(model)), dict(vars(actor.MegatronTrainRayActor))
args = Namespace(use_opd=True, normalize_advantages=True, **PATHS)
assert before == (dict(vars(model)), dict(vars(actor.MegatronTrainRayActor))), "an import patches nothing"
from slime.backends.megatron_utils.opd_hooks import initialize
initialize(args)
assert before[0]["get_batch"] is not model.get_batch and args.ta_opd_whiten
"""
    imports(modules, (*CLIENT, "slime.rollout", "ray", "megatron", "train", "train_opd"), then)


def test_the_start_imports_no_engine_and_no_client():
    imports(("slime.utils.opd_checks", "train_opd"), (*CLIENT, *ENGINES))
