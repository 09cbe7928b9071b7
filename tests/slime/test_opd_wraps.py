from types import SimpleNamespace

import pytest
from slime.backends.megatron_utils import model
from slime.backends.megatron_utils.actor import MegatronTrainRayActor
from slime.backends.megatron_utils.opd_wraps import log_reverse_kl_in_training, return_to_actor_after_loading, wrap


@pytest.fixture(autouse=True)
def unwrapped():
    """slime's functions as they were before and after each test."""
    kept = [(owner, name, getattr(owner, name)) for owner, name in OURS.values()]
    for owner, name, function in kept:
        setattr(owner, name, getattr(function, "ta_opd_original", function))
    yield
    for owner, name, function in kept:
        setattr(owner, name, function)


OURS = {
    log_reverse_kl_in_training: (model, "get_batch"),
    return_to_actor_after_loading: (MegatronTrainRayActor, "load_other_checkpoint"),
}


def owner(function=lambda a, b, c=1: (a, b, c)):
    return SimpleNamespace(__name__="slime.module", function=function)


def shouting(function):
    return lambda *args: ("wrapped", function(*args))


def test_a_function_is_wrapped_once_however_often_it_is_asked_for():
    place = owner()
    for _ in range(3):
        wrap(place, "function", ("a", "b"), shouting)
    assert place.function(1, 2) == ("wrapped", (1, 2, 1))


@pytest.mark.parametrize("parameters", [("a", "c"), ("b", "a"), ("a", "b", "c", "d"), ("x",)])
def test_another_signature_is_refused_loudly_and_left_alone(parameters):
    place = owner()
    before = place.function
    with pytest.raises(RuntimeError, match=r"slime\.module\.function takes \('a', 'b', 'c'\); this patch knows"):
        wrap(place, "function", parameters, shouting)
    assert place.function is before


def test_an_absent_function_is_refused_loudly():
    with pytest.raises(RuntimeError, match=r"slime has no slime\.module\.other"):
        wrap(owner(), "other", (), shouting)


def test_a_wrap_keeps_name_and_documentation():
    def function(a):
        """What it is."""

    place = owner(function)
    wrap(place, "function", ("a",), shouting)
    assert place.function.__name__ == "function" and place.function.__doc__ == "What it is."


@pytest.mark.parametrize("install", OURS)
def test_slimes_functions_are_wrapped_once(install):
    place, name = OURS[install]
    install()
    first = getattr(place, name)
    install()
    assert getattr(place, name) is first


@pytest.mark.parametrize("install", OURS)
def test_slimes_functions_of_another_signature_are_refused(install, monkeypatch):
    place, name = OURS[install]
    monkeypatch.setattr(place, name, lambda something, entirely, different: None)
    with pytest.raises(RuntimeError, match="this patch knows"):
        install()


KEYS = ["tokens", "advantages"]


def test_the_loss_is_handed_the_reverse_kl_where_it_trains_and_it_is_there(monkeypatch):
    def get_batch(data_iterator, keys, pad_multiplier=128):
        return {key: data_iterator.rollout_data.get(key) for key in keys}

    monkeypatch.setattr(model, "get_batch", get_batch)
    log_reverse_kl_in_training()
    there = SimpleNamespace(rollout_data={"tokens": 1, "advantages": 2, "opd_reverse_kl": 3})
    assert model.get_batch(there, KEYS, 128) == {"tokens": 1, "advantages": 2, "opd_reverse_kl": 3}
    assert model.get_batch(there, ["tokens"], pad_multiplier=64) == {"tokens": 1}
    absent = SimpleNamespace(rollout_data={"tokens": 1, "advantages": 2})
    assert model.get_batch(absent, KEYS) == {"tokens": 1, "advantages": 2}
    assert KEYS == ["tokens", "advantages"]


def test_the_rest_of_a_call_passes_through(monkeypatch):
    seen = []

    def get_batch(data_iterator, keys, *rest, **named):
        seen.append((keys, rest, named))

    monkeypatch.setattr(model, "get_batch", get_batch)
    log_reverse_kl_in_training()
    model.get_batch(SimpleNamespace(rollout_data={}), ["tokens"], 64, allgather_cp=True)
    assert seen == [(["tokens"], (64,), {"allgather_cp": True})]


def test_after_loading_another_checkpoint_the_actors_own_weights_are_back():
    actor = MegatronTrainRayActor()
    actor.load_other_checkpoint("teacher", "teacher's")
    assert actor.weights == "teacher's"
    return_to_actor_after_loading()
    actor.load_other_checkpoint("teacher", "teacher's")
    actor.load_other_checkpoint(model_tag="ref", path="reference's")
    assert actor.weights == "actor" and actor.backups == {
        "actor": "actor",
        "teacher": "teacher's",
        "ref": "reference's",
    }


def test_a_subclass_with_copies_of_the_methods_is_mended_too():
    """Ray runs the actor as such a subclass."""

    class AsRayRunsIt(MegatronTrainRayActor):
        def load_other_checkpoint(self, model_tag, path, _ray_trace_ctx=None):
            return original(self, model_tag, path)

    original = getattr(
        MegatronTrainRayActor.load_other_checkpoint,
        "ta_opd_original",
        MegatronTrainRayActor.load_other_checkpoint,
    )
    return_to_actor_after_loading()
    return_to_actor_after_loading()
    running = AsRayRunsIt()
    running.load_other_checkpoint("teacher", "teacher's weights")
    assert running.weights == "actor" and running.backups["teacher"] == "teacher's weights"
