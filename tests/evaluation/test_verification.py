from __future__ import annotations

import numpy as np
import pytest

from fcvideo.errors import InputError
from fcvideo.evaluation import verification
from fcvideo.evaluation.verification import best_threshold, cosines, judge, verify


def ten_folds(num_pairs: int) -> np.ndarray:
    return np.arange(num_pairs) * 10 // num_pairs


def noisy_scores(num_pairs: int = 600, digits: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    same = rng.random(num_pairs) < 0.4
    return np.round(rng.normal(size=num_pairs) + same, digits), same


def test_cosines_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "PAIRS_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, 5)).astype(np.float32)
    features[3] = 0
    first, second = rng.integers(0, 20, (2, 50))
    found = cosines(features, first, second)
    for pair, (a, b) in enumerate(zip(features[first].astype(float), features[second].astype(float), strict=True)):
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        assert found[pair] == pytest.approx(a @ b / norms if norms else 0, abs=1e-6)


@pytest.mark.parametrize("digits", [9, 1], ids=["distinct", "with ties"])
def test_the_best_threshold_is_as_good_as_any(digits: int) -> None:
    scores, same = noisy_scores(200, digits)
    accuracy = np.mean((scores >= best_threshold(scores, same)) == same)
    candidates = np.concatenate([scores, [-99, 99]])
    assert accuracy == max(np.mean((scores >= candidate) == same) for candidate in candidates)


def test_a_threshold_may_accept_all_or_none() -> None:
    scores = np.array([0.1, 0.2, 0.3])
    assert best_threshold(scores, np.ones(3, bool)) < 0.1
    assert best_threshold(scores, np.zeros(3, bool)) > 0.3


@pytest.mark.parametrize("digits", [9, 1], ids=["distinct", "with ties"])
def test_the_curve_counts_pairs_and_its_area_is_the_share_of_well_ordered_ones(digits: int) -> None:
    scores, same = noisy_scores(digits=digits)
    result = judge(scores, same, ten_folds(len(same)))
    thresholds = [np.inf, *np.unique(scores)[::-1]]
    np.testing.assert_allclose(result.false_accept_rate, [np.mean(scores[~same] >= t) for t in thresholds])
    np.testing.assert_allclose(result.true_accept_rate, [np.mean(scores[same] >= t) for t in thresholds])
    higher = scores[same][:, None] - scores[~same]
    assert result.roc_auc == pytest.approx(np.mean((higher > 0) + (higher == 0) / 2))
    accepted = [np.mean(scores[same] >= t) for t in thresholds if np.mean(scores[~same] >= t) <= 0.01]
    assert result.tar_at_far_1_percent == pytest.approx(100 * max(accepted))


def test_each_fold_is_judged_by_the_others_threshold() -> None:
    scores, same = noisy_scores()
    folds = ten_folds(len(same))
    accuracies = []
    for fold in range(10):
        here = folds == fold
        threshold = best_threshold(scores[~here], same[~here])
        accuracies.append(100 * np.mean((scores[here] >= threshold) == same[here]))
    result = judge(scores, same, folds)
    assert result.accuracy_percent == pytest.approx(np.mean(accuracies))
    assert result.deviation_percent == pytest.approx(np.std(accuracies))


def test_people_that_differ_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    people = rng.normal(size=(30, 16))
    features = (np.repeat(people, 2, axis=0) + 0.05 * rng.normal(size=(60, 16))).astype(np.float32)
    first = np.arange(0, 60, 2)
    result = verify(
        features,
        np.concatenate([first, first]),
        np.concatenate([first + 1, (first + 3) % 60]),
        np.arange(60) < 30,
        np.arange(60) % 10,
    )
    assert (result.accuracy_percent, result.roc_auc, result.tar_at_far_1_percent) == (100, 1, 100)


def test_noise_is_near_chance() -> None:
    rng = np.random.default_rng(0)
    result = judge(rng.normal(size=4000), np.arange(4000) % 2 == 0, ten_folds(4000))
    assert abs(result.accuracy_percent - 50) < 3
    assert abs(result.roc_auc - 0.5) < 0.03


def test_pairs_of_one_kind_or_in_one_fold_are_refused() -> None:
    with pytest.raises(InputError, match="all of the same person"):
        judge(np.zeros(4), np.ones(4, bool), np.arange(4))
    with pytest.raises(InputError, match="at least two folds"):
        judge(np.zeros(4), np.arange(4) > 1, np.zeros(4, int))
