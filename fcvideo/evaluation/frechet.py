"""The Fréchet distance (FID) of generated pictures from real ones, by Inception features of torch-fidelity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fcvideo.errors import first_line

Inception = Callable[[Tensor], np.ndarray]  # pictures (B, 3, H, W) in [0, 1] to features (B, D)


def load_inception(device: torch.device | str = "cpu") -> Inception | str:
    """The network that FID is defined by, from torch-fidelity's download; or a line that says why it is not here."""
    try:
        from torch_fidelity import FeatureExtractorInceptionV3
    except ImportError:
        return "torch-fidelity is not installed (pip install torch-fidelity)"
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], verbose=False).to(device)
    except Exception as error:  # urllib's, torch's and the disk's
        reason = first_line(error)
        return f"torch-fidelity could not get its network ({reason})"

    @torch.inference_mode()
    def features(faces: Tensor) -> np.ndarray:
        (found,) = network((faces * 255).round().to(torch.uint8))
        return found.float().cpu().numpy()

    return features


class Moments:
    """Mean and covariance of features that are shown a few at a time, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = self._products = np.zeros(())

    def add(self, features: np.ndarray) -> None:
        features = features.astype(np.float64)
        self.count += len(features)
        self._sum = self._sum + features.sum(axis=0)
        self._products = self._products + features.T @ features

    @property
    def mean(self) -> np.ndarray:
        return self._sum / self.count

    @property
    def covariance(self) -> np.ndarray:
        """Divided by count - 1, as FID's definition has it."""
        return (self._products - self.count * np.outer(self.mean, self.mean)) / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^1/2) of two sets of features (Heusel et al. 2017)."""
    root = _root(a.covariance)
    # A^1/2 B A^1/2 has the eigenvalues of A B and is symmetric: seconds for 2,048 features, where sqrtm takes a minute.
    eigenvalues = np.linalg.eigvalsh(root @ b.covariance @ root).clip(0)
    trace = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(eigenvalues).sum()
    return max(0.0, float(((a.mean - b.mean) ** 2).sum() + trace))  # rounding can leave -1e-6


def _root(symmetric: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T
