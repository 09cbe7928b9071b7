"""What the train actor holds after loading a teacher: teacher_weights.py upstream|patched, Megatron-LM on PYTHONPATH.

slime's own methods on an actor that has one parameter instead of a model: 0 is the actor's weight, 1 the teacher's.
Prints the weight that the first update would send to the rollout engines.
"""

import sys
from types import SimpleNamespace

import ray
import torch
from slime.backends.megatron_utils import actor as actor_module
from slime.utils.tensor_backper import TensorBackuper

ACTOR, TEACHER = 0.0, 1.0
# What runs in a worker: a subclass, made before the actor starts, on which Ray puts a copy of every method.
ACTOR_CLASS = ray.remote(num_gpus=1)(actor_module.MegatronTrainRayActor).__ray_metadata__.modified_class


def make_actor():
    actor = object.__new__(ACTOR_CLASS)
    actor.args = SimpleNamespace(
        load="actor", no_load_optim=False, no_load_rng=False, finetune=False, ckpt_step=None, opd_teacher_ckpt_step=None
    )
    actor.model = [torch.nn.Parameter(torch.full((2,), ACTOR))]
    actor.weights_backuper = TensorBackuper.create(lambda: [("weight", actor.model[0])], single_tag=None)
    actor.weights_backuper.backup("actor")
    actor._active_model_tag = "actor"
    return actor


def load_teacher(model, *unused, **options):
    """In the place of reading a checkpoint."""
    with torch.no_grad():
        model[0].fill_(TEACHER)
    return 0, 0


def install_mends():
    """As slime calls --custom-megatron-init-path, in an actor and a critic of the same process."""
    from slime.backends.megatron_utils import opd_hooks
    from slime.utils.opd_versions import PATHS

    for _ in range(2):
        opd_hooks.initialize(SimpleNamespace(use_opd=True, opd_type="megatron", normalize_advantages=False, **PATHS))


def main(which):
    if which == "patched":
        install_mends()
    actor_module.load_checkpoint = load_teacher
    actor = make_actor()
    actor.load_other_checkpoint("teacher", "teacher")
    assert float(actor.weights_backuper.get("teacher")["weight"][0]) == TEACHER, "the teacher is kept for scoring"
    assert float(actor.weights_backuper.get("actor")["weight"][0]) == ACTOR
    assert actor.args.load == "actor"
    print(float(actor.model[0][0]), actor._active_model_tag)


if __name__ == "__main__":
    main(sys.argv[1])
