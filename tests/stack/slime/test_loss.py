"""Our loss inside slime's own loss_function, with its reducers and its policy loss, over real ranks."""

import json

from .probes import probe

PROGRAM = "../../../slime/spread_losses.py"
LAYOUTS = ("tp2", "cp2", "cp2_gathered")


def test_slimes_loss_function_gives_the_loss_and_gradient_of_one_float64_process(with_hooks, tmp_path, record):
    out = tmp_path / "errors.json"
    probe(with_hooks, PROGRAM, str(out), *LAYOUTS)
    errors = json.loads(out.read_text(encoding="utf-8"))
    assert set(errors) == set(LAYOUTS)
    found = {(layout, case): error for layout, cases in errors.items() for case, error in cases.items()}
    for place, error in found.items():
        assert max(error.values()) < 1e-5, (place, error)
    worst = max(error["gradient"] for error in found.values())
    record("losses of whole distributions", f"{len(found)} cases over TP 2, CP 2: gradients within {worst:.0e}")


def test_the_wraps_know_slimes_own_trainer(with_hooks, megatron_dir):
    found = json.loads(probe(with_hooks, "loss_wraps.py", cpu_stands_in=True))
    assert found == ["get_batch", "train_one_step", "save", "forward_only"]
