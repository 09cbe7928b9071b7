"""Our loss inside slime's own loss_function, with its reducers and its policy loss, over real ranks."""

import json

from .probes import probe

PROGRAM = "../../../slime/spread_losses.py"
LAYOUTS = ("tp2", "cp2", "cp2_gathered")
STEPS = "../../../slime/spread_model.py"
STEP_LAYOUTS = ("tp2_sp_tied", "pp2_tied", "pp2_vp2", "pp2_tp2_sp", "cp2_gathered", "tp2_sp_cp2")


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


def test_slimes_own_training_step_gives_every_layout_one_ranks_gradients_with_a_packed_head_too(
    with_hooks, megatron_dir, tmp_path, record
):
    out = tmp_path / "steps.json"
    probe(with_hooks, STEPS, str(out), "--layouts", *STEP_LAYOUTS, cpu_stands_in=True)
    errors = json.loads(out.read_text(encoding="utf-8"))
    assert set(errors) == set(STEP_LAYOUTS)
    worst, count = 0.0, 0
    for layout, cases in errors.items():
        for case, ways in cases.items():
            for error in ways.values():
                assert max(error[name] for name in ("gradient", "numbers", "tokens")) < 1e-5, (layout, case, error)
                worst, count = max(worst, error["gradient"]), count + 1
            assert ways["packed"]["rows"] < ways["whole"]["rows"], (layout, case)
    record("losses of whole distributions", f"{count} steps over TP, PP, CP: gradients within {worst:.0e}")


def test_the_wraps_know_slimes_own_trainer(with_hooks, megatron_dir):
    found = json.loads(probe(with_hooks, "loss_wraps.py", cpu_stands_in=True))
    assert found == ["get_batch", "train_one_step", "save", "forward_only"]
