"""Same person or not: cosine of two features, judged by thresholds that were found on other pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import auc, roc_curve

from fcvideo.errors import InputError

PAIRS_AT_ONCE = 4096  # 6,000 pairs of HoG would be another 150 MB


@dataclass(frozen=True)
class PairResult:
    """`accuracy_percent` is the mean over the folds, `deviation_percent` their standard deviation.

    `scores` (P,) are the cosines; `threshold` suits all pairs best, for use on others. `false_accept_rate` and
    `true_accept_rate` (T,), rising from 0 to 1, are the ROC curve.
    """

    accuracy_percent: float
    deviation_percent: float
    roc_auc: float
    tar_at_far_1_percent: float
    threshold: float
    scores: np.ndarray
    false_accept_rate: np.ndarray
    true_accept_rate: np.ndarray


def verify(
    features: np.ndarray, first: np.ndarray, second: np.ndarray, same: np.ndarray, folds: np.ndarray
) -> PairResult:
    """Features (N, D); pairs as rows `first` and `second` (P,) of them, `same` (P,) bool, `folds` (P,) int.

    Each fold is judged at the best threshold of the others (LFW's protocol). Errors: InputError, see `judge`.
    """
    return judge(cosines(features, first, second), same, folds)


def judge(scores: np.ndarray, same: np.ndarray, folds: np.ndarray) -> PairResult:
    """`verify` on scores (P,) of any kind, larger for the same person.

    Errors: InputError for pairs of one kind only, or one fold only.
    """
    same = np.asarray(same, dtype=bool)
    if same.all() or not same.any():
        kind = "the same person" if same.any() else "different persons"
        raise InputError(f"pairs: found {len(same)}, all of {kind}; expected both kinds")
    numbers = np.unique(folds)
    if len(numbers) < 2:
        raise InputError(f"pairs: found {len(same)} in one fold, expected at least two folds")
    accuracies = []
    for number in numbers:
        judged = folds == number
        threshold = best_threshold(scores[~judged], same[~judged])
        accuracies.append(100 * np.mean((scores[judged] >= threshold) == same[judged]))
    false_rate, true_rate, _ = roc_curve(same, scores, drop_intermediate=False)
    return PairResult(
        accuracy_percent=float(np.mean(accuracies)),
        deviation_percent=float(np.std(accuracies)),
        roc_auc=float(auc(false_rate, true_rate)),
        tar_at_far_1_percent=float(100 * true_rate[false_rate <= 0.01].max()),
        threshold=best_threshold(scores, same),
        scores=scores,
        false_accept_rate=false_rate,
        true_accept_rate=true_rate,
    )


def cosines(features: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine (P,) float64 of rows `first` and `second` of features (N, D); 0 where one is a zero vector."""
    norms = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    products = np.empty(len(first))
    for start in range(0, len(first), PAIRS_AT_ONCE):
        rows = slice(start, start + PAIRS_AT_ONCE)
        products[rows] = np.einsum("pd,pd->p", features[first[rows]], features[second[rows]], dtype=np.float64)
    scale = norms[first] * norms[second]
    return np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """Judges most pairs right when `score >= threshold` means the same person; the middle one of equals."""
    num_same = np.count_nonzero(same)
    if num_same in (0, len(same)):  # whose curve is not defined
        return float(scores.min() - 1 if num_same else scores.max() + 1)
    false_rate, true_rate, reached = roc_curve(same, scores, drop_intermediate=False)
    right = np.rint(true_rate * num_same) - np.rint(false_rate * (len(same) - num_same))
    distinct = reached[1:]
    thresholds = np.concatenate([[distinct[0] + 1], (distinct[:-1] + distinct[1:]) / 2, [distinct[-1] - 1]])
    best = np.flatnonzero(right == right.max())
    return float(thresholds[best[len(best) // 2]])
