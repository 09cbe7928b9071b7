"""The regression against a sandwich written by hand, the bootstrap against rows drawn again, the gap and its unit."""

import numpy as np
import pytest
from fixed_context.statistics.bootstrap import Clusters
from fixed_context.statistics.gain import gain_table
from fixed_context.statistics.regression import (
    bootstrap_contrasts,
    build_design,
    cluster_ols,
    fit,
    gap_contrast,
    model_terms,
    solve_each,
)
from fixed_context.statistics.settings import Settings
from fixed_context.statistics.unit_scores import unit_scores

from .planted import planted_frame


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(1)
    codes = np.sort(rng.integers(0, 15, 300))
    x = np.column_stack([np.ones(300), rng.normal(size=(300, 3)) + rng.normal(size=(15, 3))[codes]])
    return x, x @ [0.5, 1, -1, 0] + rng.normal(size=15)[codes] + rng.normal(size=300), codes


def sandwich(x, y, codes):
    """Coefficients and cluster-robust standard errors: (X'X)^-1 sum_g X_g'u_g u_g'X_g (X'X)^-1, small-sample factor."""
    n, p = x.shape
    bread = np.linalg.inv(x.T @ x)
    beta = bread @ x.T @ y
    residual, meat = y - x @ beta, np.zeros((p, p))
    names = np.unique(codes)
    for g in names:
        score = x[codes == g].T @ residual[codes == g]
        meat += np.outer(score, score)
    factor = len(names) / (len(names) - 1) * (n - 1) / (n - p)
    return beta, np.sqrt(np.diag(factor * bread @ meat @ bread))


def test_statsmodels_and_a_sandwich_written_by_hand_agree(problem):
    solved, (beta, se) = cluster_ols(*problem), sandwich(*problem)
    np.testing.assert_allclose(solved.beta, beta, rtol=1e-9)
    np.testing.assert_allclose(solved.se, se, rtol=1e-9)


def test_the_bootstrap_t_has_the_same_estimate_and_error_as_statsmodels(problem):
    x, y, codes = problem
    solved = cluster_ols(x, y, codes)
    for found, i in zip(bootstrap_contrasts(x, y, Clusters(codes, 200), np.eye(4)), range(4), strict=True):
        assert found.value == pytest.approx(solved.beta[i]) and found.se == pytest.approx(solved.se[i])
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
        assert found.low < found.value < found.high


def test_replicates_are_regressions_on_rows_that_are_drawn_again(problem):
    x, y, codes = problem
    clusters = Clusters(codes, 5, seed=2)
    xx, xy = clusters.grams(x, x), clusters.grams(x, y[:, None])
    replicates = solve_each(clusters.draws(xx), clusters.draws(xy))
    for r in range(5):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(codes == g), int(n)) for g, n in enumerate(clusters.weights[r]) if n]
        )
        np.testing.assert_allclose(replicates[r, :, 0], np.linalg.lstsq(x[rows], y[rows], rcond=None)[0], rtol=1e-8)


def test_the_order_of_the_rows_changes_nothing():
    frame = planted_frame("learnable", 20, 10, ks=())
    one, two = gain_table(frame, 16), gain_table(frame.sample(fraction=1, shuffle=True, seed=1), 16)
    fits = [
        fit("split", model_terms("split", t, unit_scores(t)), t.gain["absolute"], Clusters(t.prompt, 100))
        for t in (one, two)
    ]
    assert fits[0].gap_raw.low == pytest.approx(fits[1].gap_raw.low, rel=1e-6)


def test_the_raw_gap_is_in_nats_a_unit_of_disagreement_without_noise():
    table = gain_table(planted_frame("learnable", 30, 20, noise=0, size=0.25, ks=()), 16)
    fitted = fit(
        "split", model_terms("split", table, unit_scores(table)), table.gain["absolute"], Clusters(table.prompt, 50)
    )
    assert fitted.gap_raw.value == pytest.approx(0.25, rel=1e-6)
    assert fitted.coefficient("learnable").raw == pytest.approx(0.25, rel=1e-6)


def test_a_uniform_effect_of_disagreement_has_a_standardised_gap_and_no_raw_one():
    table = gain_table(planted_frame("none", 60, 20, ks=()), 16)
    scores = unit_scores(table)
    gain = 0.3 * scores.d + 1e-3 * np.random.default_rng(0).normal(size=len(table))
    fitted = fit("split", model_terms("split", table, scores), gain, Clusters(table.prompt, 200))
    assert fitted.gap_raw.value == pytest.approx(0, abs=2e-3)
    assert abs(fitted.gap.value) > 0.02 and fitted.gap.low * fitted.gap.high > 0


def test_learnable_and_incompatible_add_up_to_disagreement():
    table = gain_table(planted_frame("none", 10, 10, ks=()), 16)
    scores = unit_scores(table)
    np.testing.assert_allclose(scores.learnable + scores.incompatible, scores.d)
    terms = model_terms("split", table, scores)
    design = build_design(terms, table.gain["absolute"])
    contrast = gap_contrast(design, standardised=False)
    assert contrast[1 + design.terms.index("learnable")] == pytest.approx(
        table.gain["absolute"].std() / scores.learnable.std()
    )


def test_a_constant_control_is_left_out_and_named_and_a_constant_score_leaves_no_model():
    table = gain_table(planted_frame("learnable", 15, 10, ks=()), 16)
    terms = model_terms("compatibility", table, unit_scores(table))
    clusters, gain = Clusters(table.prompt, 50), table.gain["absolute"]
    fitted = fit("compatibility", terms | {"position": np.zeros(len(table))}, gain, clusters)
    assert fitted.left_out == ("position",) and fitted.coefficient("compatibility") is not None
    nothing = fit("compatibility", terms | {"compatibility": np.ones(len(table))}, gain, clusters)
    assert nothing.coefficients == () and nothing.note == "constant: compatibility"
    twice = fit("compatibility", terms | {"compatibility": terms["disagreement"]}, gain, clusters)
    assert twice.coefficients == () and twice.note.startswith("collinear")


def test_equal_gains_and_a_single_prompt_have_no_regression_and_say_why():
    table = gain_table(planted_frame("zero", 15, 10, ks=()), 16)
    terms, clusters = model_terms("split", table, unit_scores(table)), Clusters(table.prompt, 50)
    assert "all gains are equal" in fit("split", terms, table.gain["absolute"], clusters).note
    alone = gain_table(planted_frame("learnable", 1, 40, ks=()), 16)
    fitted = fit(
        "split", model_terms("split", alone, unit_scores(alone)), alone.gain["absolute"], Clusters(alone.prompt)
    )
    assert "one prompt" in fitted.note and fitted.gap.value is None


def test_few_prompts_are_called_unreliable():
    table = gain_table(planted_frame("learnable", 9, 30, ks=()), 16)
    fitted = fit(
        "split", model_terms("split", table, unit_scores(table)), table.gain["absolute"], Clusters(table.prompt, 50)
    )
    assert "unreliable" in fitted.note


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"q_low": 0.9, "q_high": 0.1}, "--q-low"),
        ({"h_quantile": 0.0}, "--h-quantile"),
        ({"bootstrap": 0}, "--bootstrap"),
    ],
)
def test_settings_out_of_range_are_named_by_their_flag(values, message):
    with pytest.raises(ValueError, match=message):
        Settings(**values)
