import builtins
from typing import Any

import numpy as np
import pytest
from scipy.linalg import sqrtm

from fcvideo.evaluation.frechet import Moments, frechet_distance, load_inception


def moments(features: np.ndarray, pieces: int = 1) -> Moments:
    found = Moments()
    for piece in np.array_split(features, pieces):
        found.add(piece)
    return found


def test_moments_in_pieces_are_those_of_numpy() -> None:
    x = np.random.default_rng(0).normal(3, 2, (57, 5)).astype(np.float32)
    found = moments(x, 4)
    assert np.allclose(found.mean, x.mean(axis=0, dtype=np.float64))
    assert np.allclose(found.covariance, np.cov(x.astype(np.float64), rowvar=False))


def test_the_distance_is_the_textbooks() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 6)), rng.normal(0.3, 1.5, size=(150, 6)) @ rng.normal(size=(6, 6))
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(expected)


def test_equal_sets_are_at_zero_and_moved_ones_at_the_square_of_the_way() -> None:
    x = np.random.default_rng(0).normal(size=(20, 30))  # fewer pictures than features, as with a small data set
    assert frechet_distance(moments(x), moments(x)) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(moments(x), moments(x + 0.1)) == pytest.approx(30 * 0.01, abs=1e-5)


def test_without_torch_fidelity_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("torch_fidelity"):
            raise ImportError(name)
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert load_inception() == "torch-fidelity is not installed (pip install torch-fidelity)"
