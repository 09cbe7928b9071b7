"""A teacher inside slime's trainer leaves the actor's weights alone."""

import pytest

from .probes import probe

pytestmark = pytest.mark.usefixtures("megatron_dir")


def test_upstream_leaves_the_teachers_weights_in_the_actor(pristine, record):
    assert probe(pristine, "teacher_weights.py", "upstream", cpu_stands_in=True) == "1.0 teacher"
    record("actor's weights after loading a teacher", "the teacher's", "upstream")


def test_with_the_patch_the_actors_weights_come_back(with_hooks, record):
    assert probe(with_hooks, "teacher_weights.py", "patched", cpu_stands_in=True) == "0.0 actor"
    record("actor's weights after loading a teacher", "the actor's", "ours")
