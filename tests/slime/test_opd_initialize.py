"""What the trainer's start does once in every train actor."""

import pytest
from slime.backends.megatron_utils import actor, model, opd_hooks, opd_taid
from slime.backends.megatron_utils.actor import MegatronTrainRayActor
from slime.utils.opd_settings import slime_options
from slime.utils.opd_versions import TRAINER_HOOKS

from .rollouts import arguments


def test_the_hooks_belong_together():
    with pytest.raises(ValueError, match=r"needs --custom-megatron-init-path slime\.backends"):
        opd_hooks.compute_advantages(arguments(), {})
    for name in TRAINER_HOOKS:
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} must be slime.*; got somebody.else"):
            opd_hooks.initialize(arguments(**{name: "somebody.else"}))
        args = arguments()
        delattr(args, name)
        with pytest.raises(ValueError, match="got None"):
            opd_hooks.initialize(args)


@pytest.mark.parametrize("whiten", [True, False])
def test_the_start_takes_whitening_over_and_leaves_other_runs_alone(whiten):
    args = arguments(normalize_advantages=whiten)
    opd_hooks.initialize(args)
    assert args.ta_opd_whiten is whiten and args.normalize_advantages is False
    opd_hooks.initialize(args)
    assert args.ta_opd_whiten is whiten and args.normalize_advantages is False
    off = arguments(use_opd=False, normalize_advantages=whiten, custom_advantage_function_path="x.y")
    opd_hooks.initialize(off)
    assert off.normalize_advantages is whiten and not hasattr(off, "ta_opd_whiten")


def test_the_start_installs_both_mends(monkeypatch):
    mended = [(model, "get_batch"), (MegatronTrainRayActor, "load_other_checkpoint")]
    for owner, name in mended:
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, getattr(function, "ta_opd_original", function))
    before = [getattr(owner, name) for owner, name in mended]
    opd_hooks.initialize(arguments(use_opd=False))
    assert [getattr(owner, name) for owner, name in mended] == before
    opd_hooks.initialize(arguments())
    assert [getattr(owner, name).ta_opd_original for owner, name in mended] == before


def test_the_start_wraps_what_a_loss_of_whole_distributions_needs_and_nothing_for_another(monkeypatch):
    places = [(model, "train_one_step"), (actor, "save"), (actor, "forward_only")]
    for owner, name in places:
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, getattr(function, "ta_opd_original", function))
    before = [getattr(owner, name) for owner, name in places]
    opd_hooks.initialize(arguments())
    assert [getattr(owner, name) for owner, name in places] == before
    for _ in range(2):
        opd_hooks.initialize(arguments(opd_loss="jsd"))
        assert [getattr(owner, name).ta_opd_original for owner, name in places] == before


def test_a_new_actor_starts_without_the_taid_state_of_another(monkeypatch):
    for owner, name in ((model, "train_one_step"), (actor, "save"), (actor, "forward_only")):
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, getattr(function, "ta_opd_original", function))
    args = arguments(opd_loss="taid", train_iters=4)
    opd_taid.begin_step(args, slime_options(args), 0)
    assert opd_taid.current_t() == 0.4
    opd_hooks.initialize(args)
    with pytest.raises(RuntimeError, match="outside a training step"):
        opd_taid.current_t()
