"""The JSON inside the page: packed numbers, safe text, runs told apart by label and seed."""

from __future__ import annotations

import base64
import json
import math

import numpy as np
import pytest
from local_engine.report.packing import check_data, pack_data, pack_floats, pack_history, safe_json

from .synthetic import HOSTILE, make_data


def unpack(text: str) -> np.ndarray:
    """Undo ``pack_floats``."""
    triples = np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(-1, 3)
    return np.pad(triples, ((0, 0), (1, 0))).view("<f4").ravel()


def test_packed_numbers_keep_four_digits_and_missing_stays_missing() -> None:
    values = [0.0, 1.0, -2.5, 123456.0, 1.2345e-9, None, math.inf, -math.inf, 0.1]
    back = unpack(pack_floats(values))
    assert np.isnan(back[5])
    known = [value for value in values if value is not None]
    np.testing.assert_allclose(np.delete(back, 5), known, rtol=1e-5)
    assert len(pack_floats(values)) == 4 * len(values)


def test_safe_json_has_no_markup_and_reads_back() -> None:
    text = safe_json(list(HOSTILE))
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == list(HOSTILE)


def test_ratios_that_agree_in_two_decimals_stay_two_runs() -> None:
    rows = [
        {
            "label": f"random:{ratio}",
            "method": "random",
            "mask": "random",
            "ratio": ratio,
            "seed": 0,
            "step": 0,
            "loss": 1,
        }
        for ratio in (0.005, 0.01)
    ]
    assert [run["label"] for run in pack_history(rows)] == ["random:0.005", "random:0.01"]


def test_only_fields_with_a_number_become_curves(data: dict) -> None:
    for run in pack_data(data)["history"]:
        assert list(run["fields"]) == ["reverse_kl", "keep_ratio"]


@pytest.mark.parametrize("field", ["student_logp", "teacher_top", "quadrant", "scores", "kept", "gain"])
def test_length_that_disagrees_is_named(field: str) -> None:
    made = make_data(contexts=1, length=4, seeds=1, steps=1)
    context = made["contexts"][0]
    if field in ("scores", "kept", "gain"):
        name = next(iter(context[field]))
        context[field][name] = context[field][name][:-1]
    else:
        context[field] = context[field][:-1]
    with pytest.raises(AssertionError, match=rf"c000.*{field}.*3 entries for 4 tokens"):
        check_data(made)
