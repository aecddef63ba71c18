"""Linear probes: how much a linear reading of frozen features tells, by a converged solver or by the paper's SGD.

The converged one works on standardised features and chooses its L2 strength on a tenth of the training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import logsumexp

from fcvideo.errors import InputError
from fcvideo.evaluation.solvers import SoftmaxFit, Standardised, descend, ridge

Solver = Literal["lbfgs", "sgd"]

# Of the mean loss, on standardised features; from strong to weak, so that each fit starts from the one before it.
CLASS_STRENGTHS = tuple(10.0 ** (1 - step / 2) for step in range(13))
ANGLE_STRENGTHS = tuple(10.0 ** (2 - step / 2) for step in range(11))


@dataclass(frozen=True)
class ClassResult:
    """`predictions` (N,) int64 for the test rows; `strength` is the L2 strength that was chosen, None for SGD."""

    accuracy_percent: float
    predictions: np.ndarray
    strength: float | None


@dataclass(frozen=True)
class AngleResult:
    """Mean absolute errors (A,) and predictions (N, A), float64, in degrees; an L2 strength per angle, None for SGD."""

    mae_deg: np.ndarray
    predictions: np.ndarray
    strengths: tuple[float, ...] | None


def probe_classes_seeds(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    num_classes: int,
    solver: Solver = "lbfgs",
    seeds: Sequence[int] = (0, 1, 2),
    groups: np.ndarray | None = None,
) -> list[ClassResult]:
    """One result per seed, for less than each alone; labels are 0 to num_classes - 1.

    A seed draws the validation rows (lbfgs) or the order of the rows and the first weights (sgd). Rows of one group
    (N,), a person or a clip, stay on one side of the validation split. Errors: InputError for values that are not
    finite or fewer than two training rows.
    """
    assert train_y.min() >= 0
    assert train_y.max() < num_classes
    _check_rows(train_x)
    if solver == "sgd":
        fits: list[tuple[np.ndarray, float | None]] = [
            (_descend_classes(train_x, train_y, test_x, num_classes, seed), None) for seed in seeds
        ]
    else:
        fits = _converge_classes(train_x, train_y, test_x, num_classes, seeds, groups)
    results = []
    for scores, strength in fits:
        predictions = scores.argmax(axis=1)
        results.append(ClassResult(float(100 * np.mean(predictions == test_y)), predictions, strength))
    return results


def _check_rows(train_x: np.ndarray) -> None:
    if len(train_x) < 2:
        raise InputError(f"training split: found {len(train_x)} usable rows, expected at least two")


def validation_rows(num_rows: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """A tenth of the rows, by seed, as (N,) bool; whole groups where `groups` (N,) has two or more."""
    labels = np.arange(num_rows)
    if groups is not None and len(np.unique(groups)) > 1:
        labels = np.unique(groups, return_inverse=True)[1]
    num_groups = int(labels.max()) + 1
    drawn = np.random.default_rng(seed).permutation(num_groups)[: max(1, num_groups // 10)]
    return np.isin(labels, drawn)


def _converge_classes(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    num_classes: int,
    seeds: Sequence[int],
    groups: np.ndarray | None,
) -> list[tuple[np.ndarray, float | None]]:
    """Scores (N, K) of the test rows and the strength, per seed; seeds that choose alike end in the same fit."""
    fit = SoftmaxFit(train_x, train_y, num_classes)
    everything = np.ones(len(train_x), dtype=bool)
    scores: dict[float, np.ndarray] = {}
    chosen = []
    for seed in seeds:
        strength, start = _choose_strength(fit, train_y, validation_rows(len(train_x), seed, groups))
        chosen.append(strength)
        if strength not in scores:
            found = fit.solve(strength, everything, start, precision=1e-8)
            scores[strength] = fit.rows.apply(test_x, found[:-1], found[-1])
    return [(scores[strength], strength) for strength in chosen]


def _choose_strength(fit: SoftmaxFit, labels: np.ndarray, held: np.ndarray) -> tuple[float, np.ndarray]:
    """The strength with the least cross entropy on the `held` rows, and its weights.

    Cross entropy, not accuracy, for it falls and then rises along the strengths: the search ends when it rises.
    """
    rows, truth = fit.rows.features[held], labels[held]
    best, best_strength, best_point = np.inf, CLASS_STRENGTHS[0], np.empty(0)
    point = None
    for strength in CLASS_STRENGTHS:
        point = fit.solve(strength, ~held, point)
        scores = fit.rows.apply(rows, point[:-1], point[-1])
        entropy = float(np.mean(logsumexp(scores, axis=1) - scores[np.arange(len(truth)), truth]))
        if entropy >= best:
            break
        best, best_strength, best_point = entropy, strength, point
    return best_strength, best_point


def _descend_classes(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, num_classes: int, seed: int
) -> np.ndarray:
    """Scores (N, K) of the test rows after the paper's SGD (section 4.2, as in MoCo): raw features, no weight decay."""
    rng = np.random.default_rng(seed)
    one_hot = np.eye(num_classes, dtype=np.float32)[train_y]
    weights = rng.normal(0, 0.01, (num_classes, train_x.shape[1])).astype(np.float32)
    bias = np.zeros(num_classes, np.float32)

    def error(scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        share = np.exp(scores - scores.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        return share - one_hot[rows]

    descend(train_x.__getitem__, len(train_x), weights, bias, error, rate=30.0, batch_size=256, rng=rng)
    return test_x @ weights.T + bias


def probe_angles_seeds(
    train_x: np.ndarray,
    train_deg: np.ndarray,
    test_x: np.ndarray,
    test_deg: np.ndarray,
    solver: Solver = "lbfgs",
    seeds: Sequence[int] = (0, 1, 2),
    groups: np.ndarray | None = None,
) -> list[AngleResult]:
    """One result per seed, as `probe_classes_seeds`; least squares, whose converged solution is computed at once.

    Each angle has an L2 strength of its own. Errors: InputError as there.
    """
    _check_rows(train_x)
    rows = Standardised(train_x)
    if solver == "sgd":
        fits: list[tuple[np.ndarray, tuple[float, ...] | None]] = [
            (_descend_angles(rows, train_deg, test_x, seed), None) for seed in seeds
        ]
    else:
        fits = _converge_angles(rows, train_deg, test_x, seeds, groups)
    return [
        AngleResult(np.abs(predictions - test_deg).mean(axis=0), predictions, strengths)
        for predictions, strengths in fits
    ]


def _converge_angles(
    rows: Standardised,
    train_deg: np.ndarray,
    test_x: np.ndarray,
    seeds: Sequence[int],
    groups: np.ndarray | None,
) -> list[tuple[np.ndarray, tuple[float, ...] | None]]:
    """Predictions (N, A) for the test rows and the strength of each angle, per seed."""
    gram, cross = rows.products(train_deg)
    mean = train_deg.mean(axis=0)
    predictions: dict[float, np.ndarray] = {}
    fits: list[tuple[np.ndarray, tuple[float, ...] | None]] = []
    for seed in seeds:
        held = validation_rows(len(train_deg), seed, groups)
        strengths = _choose_angle_strengths(rows, train_deg, held, gram, cross)
        for strength in set(strengths) - predictions.keys():
            weights = ridge(gram, cross, len(train_deg), strength)
            predictions[strength] = rows.apply(test_x, weights, mean)
        chosen = [predictions[strength][:, angle] for angle, strength in enumerate(strengths)]
        fits.append((np.stack(chosen, axis=1), strengths))
    return fits


def _choose_angle_strengths(
    rows: Standardised, train_deg: np.ndarray, held: np.ndarray, gram: np.ndarray, cross: np.ndarray
) -> tuple[float, ...]:
    """Per angle, the strength with the least mean absolute error on the `held` rows."""
    standard = np.concatenate([piece.astype(np.float64) for _, piece in rows.pieces(rows.features[held])])
    num_fit, fit_deg = int(np.sum(~held)), train_deg[~held].mean(axis=0)
    fit_mean = -standard.sum(axis=0) / num_fit  # all rows together have mean 0
    fit_gram = gram - standard.T @ standard - num_fit * np.outer(fit_mean, fit_mean)
    fit_cross = cross - standard.T @ train_deg[held] - num_fit * np.outer(fit_mean, fit_deg)
    errors = []
    for strength in ANGLE_STRENGTHS:
        weights = ridge(fit_gram, fit_cross, num_fit, strength)
        predictions = (standard - fit_mean) @ weights + fit_deg
        errors.append(np.abs(predictions - train_deg[held]).mean(axis=0))
    return tuple(ANGLE_STRENGTHS[best] for best in np.argmin(errors, axis=0))


def _descend_angles(rows: Standardised, train_deg: np.ndarray, test_x: np.ndarray, seed: int) -> np.ndarray:
    """Predictions (N, A) after SGD in batches of 16 on standardised features and angles.

    The paper gives no learning rate for it: ours is a tenth of 1 / mean |x|^2, well below what diverges.
    """
    rng = np.random.default_rng(seed)
    mean, deviation = train_deg.mean(axis=0), np.maximum(train_deg.std(axis=0), 1e-6)
    targets = ((train_deg - mean) / deviation).astype(np.float32)
    num_angles, width = train_deg.shape[1], len(rows.mean)
    weights, bias = np.zeros((num_angles, width), np.float32), np.zeros(num_angles, np.float32)

    def error(found: np.ndarray, used: np.ndarray) -> np.ndarray:
        return found - targets[used]

    rate = 0.1 / max(1, int(np.count_nonzero(rows.scale)))
    descend(rows.take, len(targets), weights, bias, error, rate=rate, batch_size=16, rng=rng)
    return rows.apply(test_x, weights.T * deviation, bias * deviation + mean)
