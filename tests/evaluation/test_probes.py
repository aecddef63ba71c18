from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcvideo.errors import InputError
from fcvideo.evaluation import solvers
from fcvideo.evaluation.probes import (
    AngleResult,
    ClassResult,
    Solver,
    probe_angles_seeds,
    probe_classes_seeds,
    validation_rows,
)
from fcvideo.evaluation.solvers import SoftmaxFit, Standardised, ridge

Data = tuple[np.ndarray, np.ndarray]


def class_data(num_rows: int, spread: float, seed: int = 0, width: int = 12, num_classes: int = 4) -> Data:
    """Clusters around the same centres for every seed; columns of very different sizes, one of which never varies."""
    centers = np.random.default_rng(99).normal(size=(num_classes, width))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_rows)
    features = centers[labels] + spread * rng.normal(size=(num_rows, width))
    features = features * 10.0 ** np.linspace(-3, 3, width) + 5
    return np.column_stack([features, np.full(num_rows, 0.1)]).astype(np.float32), labels


def angle_data(num_rows: int, noise_deg: float, seed: int = 0) -> Data:
    weights = 10 * np.random.default_rng(99).normal(size=(8, 3))
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num_rows, 8))
    angles_deg = features @ weights + [5.0, -10.0, 20.0] + noise_deg * rng.normal(size=(num_rows, 3))
    return (3 * features + 1).astype(np.float32), angles_deg


def probe_classes(*data: Any, solver: Solver = "lbfgs", seed: int = 0) -> ClassResult:
    return probe_classes_seeds(*data, solver, (seed,))[0]


def probe_angles(*data: Any, solver: Solver = "lbfgs", seed: int = 0) -> AngleResult:
    return probe_angles_seeds(*data, solver, (seed,))[0]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solvers, "ROWS_AT_ONCE", 37)


def test_rows_are_standardised_in_pieces() -> None:
    features, _ = class_data(200, 1.0)
    rows = Standardised(features)
    whole = np.concatenate([piece.copy() for _, piece in rows.pieces()])
    wide = features[:, :-1].astype(np.float64)
    np.testing.assert_allclose(whole[:, :-1], (wide - wide.mean(0)) / wide.std(0), atol=2e-3)
    assert (whole[:, -1] == 0).all()
    np.testing.assert_array_equal(rows.take(np.array([199, 3])), whole[[199, 3]])
    np.testing.assert_allclose(rows.products(whole)[0], whole.T @ whole, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(rows.products(whole)[1], whole.T @ whole, rtol=1e-4, atol=1e-3)


def test_the_softmax_fit_converges_where_scikit_learn_does() -> None:
    from sklearn.linear_model import LogisticRegression

    features, labels = class_data(400, 1.5)
    fit = SoftmaxFit(features, labels, 4)
    uses = np.arange(400) >= 60
    found = fit.solve(0.03, uses, precision=1e-10)
    standard = fit.rows.take(np.flatnonzero(uses)).astype(np.float64)
    reference = LogisticRegression(C=1 / (0.03 * 340), tol=1e-10, max_iter=5000).fit(standard, labels[uses])
    np.testing.assert_allclose(found[:-1].T, reference.coef_, atol=2e-4)
    np.testing.assert_allclose(found[-1] - found[-1].mean(), reference.intercept_, atol=2e-4)


def test_a_warm_start_ends_where_a_cold_one_does() -> None:
    features, labels = class_data(300, 1.5)
    fit, uses = SoftmaxFit(features, labels, 4), np.ones(300, bool)
    warm = fit.solve(0.01, uses, fit.solve(1.0, uses), precision=1e-10)
    np.testing.assert_allclose(warm, fit.solve(0.01, uses, precision=1e-10), atol=1e-3)


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_separable_classes_are_all_read(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solvers, "EPOCHS", 20)
    (train_x, train_y), (test_x, test_y) = class_data(300, 0.05), class_data(100, 0.05, seed=1)
    if solver == "sgd":  # which takes features as they are
        rows = Standardised(train_x)
        train_x, test_x = ((features - rows.mean) * rows.scale for features in (train_x, test_x))
    result = probe_classes(train_x, train_y, test_x, test_y, 4, solver=solver)
    assert result.accuracy_percent == 100
    np.testing.assert_array_equal(result.predictions, test_y)
    assert (result.strength is None) == (solver == "sgd")


def test_noise_is_read_at_chance() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 30)).astype(np.float32)
    labels = rng.integers(0, 4, 2000)
    result = probe_classes(features[:1000], labels[:1000], features[1000:], labels[1000:], 4)
    assert abs(result.accuracy_percent - 25) < 5
    assert result.strength is not None
    assert result.strength >= 1


def test_a_class_without_training_rows_is_never_predicted() -> None:
    train_x, train_y = class_data(200, 0.5)
    result = probe_classes(train_x[train_y != 2], train_y[train_y != 2], train_x, train_y, 4)
    assert not (result.predictions == 2).any()


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_the_same_seed_gives_the_same_bits(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solvers, "EPOCHS", 3)
    train, test = class_data(200, 2.0), class_data(100, 2.0, seed=1)
    alone = probe_classes(*train, *test, 4, solver=solver, seed=7)
    again = probe_classes_seeds(*train, *test, 4, solver, seeds=(7, 8))[0]
    np.testing.assert_array_equal(alone.predictions, again.predictions)
    angles = angle_data(100, 3.0), angle_data(50, 3.0, seed=1)
    one, two = (probe_angles(*angles[0], *angles[1], solver=solver, seed=7) for _ in range(2))
    np.testing.assert_array_equal(one.predictions, two.predictions)


def test_linear_angles_are_recovered() -> None:
    result = probe_angles(*angle_data(300, 0.0), *angle_data(100, 0.0, seed=1))
    assert (result.mae_deg < 0.1).all()
    assert result.predictions.shape == (100, 3)


def test_sgd_comes_near_the_converged_angles() -> None:
    train, test = angle_data(300, 2.0), angle_data(100, 2.0, seed=1)
    converged, descended = (probe_angles(*train, *test, solver=solver) for solver in ("lbfgs", "sgd"))
    np.testing.assert_allclose(descended.mae_deg, converged.mae_deg, rtol=0.1)


def test_angles_without_trace_are_read_as_their_mean() -> None:
    rng = np.random.default_rng(0)
    features, angles_deg = rng.normal(size=(4000, 40)).astype(np.float32), 10 * rng.normal(size=(4000, 3)) + 30
    results = probe_angles_seeds(features[:3000], angles_deg[:3000], features[3000:], angles_deg[3000:])
    mean_mae = np.abs(angles_deg[3000:] - angles_deg[:3000].mean(0)).mean(0)
    for result in results:
        assert (result.mae_deg < 1.05 * mean_mae).all()


def test_ridge_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import Ridge

    features, angles_deg = angle_data(120, 3.0)
    rows = Standardised(features)
    weights = ridge(*rows.products(angles_deg), 120, 0.1)
    reference = Ridge(alpha=0.1 * 120).fit(rows.take(np.arange(120)).astype(np.float64), angles_deg)
    np.testing.assert_allclose(weights.T, reference.coef_, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(angles_deg.mean(0), reference.intercept_, atol=1e-3)


def test_groups_stay_on_one_side_of_the_validation_split() -> None:
    groups = np.repeat(np.arange(50), 4)
    held = validation_rows(200, seed=0, groups=groups)
    assert held.sum() == 20
    assert set(groups[held]).isdisjoint(groups[~held])
    assert validation_rows(200, seed=0).sum() == 20
    assert not np.array_equal(validation_rows(200, seed=0), validation_rows(200, seed=1))


def test_values_that_are_not_finite_and_missing_rows_are_refused() -> None:
    features, labels = class_data(50, 1.0)
    features[3, 2] = np.nan
    with pytest.raises(InputError, match="not finite"):
        probe_classes(features, labels, features, labels, 4)
    with pytest.raises(InputError, match="found 1 usable"):
        probe_classes(features[:1], labels[:1], features, labels, 4)
