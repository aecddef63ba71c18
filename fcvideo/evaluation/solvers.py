"""Linear fits of frozen features: converged softmax regression and least squares, and the paper's SGD.

Features are standardised on the fly, piece by piece: a second copy of them may not fit, and scikit-learn makes one. For
28,709 rows of 6,272 features, 690 MB of float32, a softmax fit adds 0.9 GB and two strengths take 38 s of one core;
StandardScaler and LogisticRegression add 1.5 GB and take 95 s for the same accuracy. Least squares add 1.0 GB, of
which the products are made once for all strengths and seeds (19 s, then 3 s a strength); Ridge adds 1.8 GB and takes
10 s each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from fcvideo.errors import InputError

ROWS_AT_ONCE = 512  # 4 MB of 2,048 features, which stay in the cache from scores to slope
EPOCHS, EPOCHS_PER_RATE = 300, 80  # the paper's schedule


class Standardised:
    """Rows of features (N, D) with mean 0 and deviation 1 over all of them, handed out in pieces.

    Columns that do not vary become 0. Errors: InputError for values that are not finite.
    """

    def __init__(self, features: np.ndarray) -> None:
        self.features = features
        total, squares = np.zeros(features.shape[1]), np.zeros(features.shape[1])
        for start in range(0, len(features), ROWS_AT_ONCE):
            total += features[start : start + ROWS_AT_ONCE].sum(axis=0, dtype=np.float64)
        mean = total / len(features)
        self.mean = mean.astype(np.float32)
        for start in range(0, len(features), ROWS_AT_ONCE):
            centred = features[start : start + ROWS_AT_ONCE] - self.mean
            squares += np.einsum("nd,nd->d", centred, centred, dtype=np.float64)
        deviation = np.sqrt(squares / len(features))
        if not np.isfinite(deviation).all():
            raise InputError("features: found values that are not finite, expected numbers")
        varies = deviation > 1e-6 * np.abs(mean)  # less is float32's rounding
        self.scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32)

    def pieces(self, features: np.ndarray | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """Row ranges and their standardised rows, float32; of other `features` by these rows' mean and deviation."""
        rows = self.features if features is None else features
        buffer = np.empty((min(ROWS_AT_ONCE, len(rows)), rows.shape[1]), np.float32)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            piece = slice(start, min(start + ROWS_AT_ONCE, len(rows)))
            standard = buffer[: piece.stop - start]
            np.subtract(rows[piece], self.mean, out=standard)
            standard *= self.scale
            yield piece, standard

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The standardised rows (B,) of these features."""
        return (self.features[rows] - self.mean) * self.scale

    def products(self, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """X'X (D, D) and X'Y (D, A) in float64."""
        width = self.features.shape[1]
        gram, cross = np.zeros((width, width)), np.zeros((width, targets.shape[1]))
        for piece, standard in self.pieces():
            gram += standard.T @ standard
            cross += standard.T @ targets[piece]
        return gram, cross

    def apply(self, features: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """Linear readings (N, K) of `features`: weights (D, K) and bias (K,) count in standardised units."""
        found = np.empty((len(features), weights.shape[1]))
        for piece, standard in self.pieces(features):
            found[piece] = standard @ weights
        return found + bias


class SoftmaxFit:
    """Softmax regression by L-BFGS, preconditioned by the features' own covariance: tens of steps, not hundreds."""

    def __init__(self, train_x: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
        self.rows = Standardised(train_x)
        self.one_hot = np.eye(num_classes, dtype=np.float32)[labels]
        self.covariance = self.rows.products(np.empty((len(labels), 0), np.float32))[0] / len(labels)
        shares = self.one_hot.mean(axis=0)
        self.curvature = max(float(np.mean(shares * (1 - shares))), 1e-3)  # of the loss in each class's scores

    def solve(
        self, strength: float, uses: np.ndarray, start: np.ndarray | None = None, precision: float = 1e-7
    ) -> np.ndarray:
        """Weights and, in the last row, bias (D + 1, K) that minimise the mean loss over the rows in `uses` (N,) bool.

        It stops when a step gains less than `precision` of the loss.
        """
        width, num_classes = len(self.covariance), self.one_hot.shape[1]
        factor = cholesky(self.curvature * self.covariance + strength * np.eye(width), lower=True)
        used = (uses / uses.sum()).astype(np.float32)[:, None]

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            point = flat.reshape(width + 1, num_classes)
            weights = solve_triangular(factor, point[:-1], lower=True, trans="T", check_finite=False)
            value, slope, bias_slope = self._loss(weights, point[-1], used)
            value += strength / 2 * float(np.sum(weights**2))
            slope += strength * weights
            slope = solve_triangular(factor, slope, lower=True, check_finite=False)
            return value, np.concatenate([slope.ravel(), bias_slope])

        point = np.zeros((width + 1, num_classes))
        if start is not None:
            point[:-1], point[-1] = factor.T @ start[:-1], start[-1]
        options = {"maxiter": 1000, "maxcor": 20, "ftol": precision, "gtol": 1e-6}
        found = minimize(loss, point.ravel(), jac=True, method="L-BFGS-B", options=options).x
        point = found.reshape(width + 1, num_classes)
        weights = solve_triangular(factor, point[:-1], lower=True, trans="T", check_finite=False)
        return np.concatenate([weights, point[-1:]])

    def _loss(self, weights: np.ndarray, bias: np.ndarray, used: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Mean cross entropy and its slope in weights (D, K) and bias (K,); rows count as `used` (N, 1) says."""
        weights32 = np.ascontiguousarray(weights.T, dtype=np.float32)
        value, slope, bias_slope = 0.0, np.zeros_like(weights32), np.zeros(len(bias))
        for piece, standard in self.rows.pieces():
            scores = standard @ weights32.T + bias.astype(np.float32)
            scores -= scores.max(axis=1, keepdims=True)
            share = np.exp(scores)
            total = share.sum(axis=1, keepdims=True)
            share /= total
            true_scores = (scores * self.one_hot[piece]).sum(axis=1, keepdims=True)
            value += float(np.sum((np.log(total) - true_scores) * used[piece], dtype=np.float64))
            share -= self.one_hot[piece]
            share *= used[piece]
            slope += share.T @ standard
            bias_slope += share.sum(axis=0)
        return value, slope.T.astype(np.float64), bias_slope


def ridge(gram: np.ndarray, cross: np.ndarray, num_rows: int, strength: float) -> np.ndarray:
    """Weights (D, A) of least squares with L2 `strength`, from X'X and X'Y of centred rows."""
    system = gram / num_rows
    system[np.diag_indices(len(gram))] += strength
    return cho_solve(cho_factor(system, lower=True, overwrite_a=True, check_finite=False), cross / num_rows)


def descend(
    take: Callable[[np.ndarray], np.ndarray],
    num_rows: int,
    weights: np.ndarray,
    bias: np.ndarray,
    error: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    rate: float,
    batch_size: int,
    rng: np.random.Generator,
) -> None:
    """The paper's SGD (section 4.2): momentum 0.9 on weights (K, D) and bias (K,), in place.

    `take` gives the features (B, D) of the rows (B,), `error` the loss's slope (B, K) in their scores (B, K).
    """
    weight_speed, bias_speed = np.zeros_like(weights), np.zeros_like(bias)
    for epoch in range(EPOCHS):
        step = np.float32(rate * 0.1 ** (epoch // EPOCHS_PER_RATE))
        order = rng.permutation(num_rows)
        for start in range(0, num_rows, batch_size):
            rows = order[start : start + batch_size]
            batch = take(rows)
            slope = error(batch @ weights.T + bias, rows) / np.float32(len(rows))
            weight_speed = 0.9 * weight_speed + slope.T @ batch
            bias_speed = 0.9 * bias_speed + slope.sum(axis=0)
            weights -= step * weight_speed
            bias -= step * bias_speed
