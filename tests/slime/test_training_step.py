"""A training step of a real Megatron GPT model in every parallel layout, with the head on all rows and packed."""

import json
import os
import subprocess
import sys

import pytest

from .conftest import ROOT, STAND_IN

LAYOUTS = ("tp2_sp_tied", "pp2_vp2", "pp2_tp2_sp", "tp2_sp_cp2", "cp2_gathered")
CASES = ("taid_per_token", "gate_recomputed", "jsd_none")


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """{layout: {case: {way: errors against one rank that ran the head on all rows}}}"""
    out = tmp_path_factory.mktemp("steps") / "errors.json"
    program = [sys.executable, "-W", "ignore", str(ROOT / "tests/slime/spread_model.py"), str(out)]
    paths = (ROOT / "slime_patch", STAND_IN, ROOT / "tests/stack/slime/cpu")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    environment |= {"OPD_CPU_SHIM": "1", "CUDA_DEVICE_MAX_CONNECTIONS": "1"}
    command = [*program, "--layouts", *LAYOUTS, "--cases", *CASES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-5000:]
    found = json.loads(out.read_text())
    assert set(found) == set(LAYOUTS) and all(set(cases) == set(CASES) for cases in found.values())
    return found


@pytest.mark.parametrize("way", ["whole", "packed"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_all_parameters_and_logged_numbers_are_those_of_one_rank(errors, layout, case, way):
    found = errors[layout][case][way]
    assert found["gradient"] < 1e-5 and found["numbers"] < 1e-5


@pytest.mark.parametrize("way", ["whole", "packed"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_tables_of_all_ranks_have_each_distilled_token_once_with_its_loss(errors, layout, case, way):
    found = errors[layout][case][way]
    assert found["tokens"] < 1e-5 and found["distilled"] == {"gate_recomputed": 17, "taid_per_token": 2}.get(case, 0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_packed_head_sees_few_rows_and_one_where_there_is_none(errors, layout):
    ranks = 2 if "sp" in layout else 1
    for case in CASES:
        packed, whole = (errors[layout][case][way]["rows"] for way in ("packed", "whole"))
        assert 4 * ranks <= packed < (1 if case == "gate_recomputed" else 0.5) * whole
    assert errors[layout]["jsd_none"]["packed"]["rows"] == 4 * ranks, "one row of each share and micro-batch"
