"""Whether a face is still the same person's after the model has removed its expression, or given it another's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fcvideo.errors import InputError
from fcvideo.evaluation.features import CPU_BATCH_SIZE, Feature, extract, resize
from fcvideo.evaluation.features import Pictures as PictureSource
from fcvideo.evaluation.pictures import PairSet
from fcvideo.evaluation.reconstruction import load_faces
from fcvideo.evaluation.verification import PairResult, cosines, verify
from fcvideo.models.facecycle import FaceCycle, denormalize

GENERATED = ("frontalised", "reenacted")


@dataclass(frozen=True)
class Kept:
    """Of generated faces, judged by one feature at its threshold for real pictures.

    `other_percent` and `other_cosine` compare each generated face with the other person of its pair, who for
    reenacted faces gave the expression: a feature that takes all faces for one person's would keep every identity.
    """

    kept_percent: float  # judged to be the person of their original
    mean_cosine: float
    other_percent: float  # judged, wrongly, to be the other person
    other_cosine: float


@dataclass(frozen=True)
class IdentityKeptResult:
    """`real` is the verification of the real pictures that gave the threshold."""

    real: PairResult
    same_percent: (
        float  # pairs of real pictures of one person that this threshold takes for one: what kept faces can reach
    )
    same_cosine: float
    generated: dict[str, Kept]  # of GENERATED

    def summary(self) -> dict[str, Any]:
        """As JSON takes it; `accuracy_percent` is over all generated faces, as the paper counts."""
        kept = list(self.generated.values())
        found: dict[str, Any] = {
            "accuracy_percent": float(np.mean([k.kept_percent for k in kept])),
            "mean_cosine": float(np.mean([k.mean_cosine for k in kept])),
            "real_accuracy_percent": self.real.accuracy_percent,
            "real_same_percent": self.same_percent,
            "real_same_cosine": self.same_cosine,
            "threshold": self.real.threshold,
        }
        return found | {f"{name}_{key}": value for name, k in self.generated.items() for key, value in vars(k).items()}


def measure_identity_kept(
    model: FaceCycle,
    pairs: PairSet,
    features: Sequence[Feature],
    *,
    pictures: PictureSource | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    limit: int = 500,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, IdentityKeptResult]:
    """By feature: faces frontalised, and reenacted with another person's expression, against their originals.

    The originals are the first pictures of up to `limit` pairs of different persons, whose second ones give the
    expression; with 500, 1,000 generated faces, as in the paper (supplement, section 5). `pictures` stands for those of
    `pairs`, for instance their face crops. The model is moved to `device`. Errors: InputError, see `verify`.
    """
    pictures = pairs.pictures if pictures is None else pictures
    others = np.flatnonzero(~pairs.same)
    if not len(others):
        raise InputError("pairs: found none of different persons, expected both kinds")
    others = others[np.linspace(0, len(others) - 1, min(limit, len(others))).round().astype(np.int64)]
    first, second = pairs.first[others], pairs.second[others]
    real = extract(pictures, features, batch_size, on_progress)
    device = torch.device(device)
    model = model.to(device).eval()
    size = CPU_BATCH_SIZE if device.type == "cpu" else batch_size
    made: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)  # (generated, feature): vectors
    for start in range(0, len(others), size):
        rows = np.concatenate([part[start : start + size] for part in (first, second)])
        faces = load_faces(pictures, rows, model.config.image_side).to(device)
        for generated, images in zip(GENERATED, generate(model, faces), strict=True):
            for name, vectors in _read(images, features).items():
                made[generated, name].append(vectors)
    results = {}
    for feature in features:
        codes = real[feature.name]
        verified = verify(codes, pairs.first, pairs.second, pairs.same, pairs.folds)
        same = verified.scores[pairs.same]
        kept = {
            generated: _judge(np.concatenate(made[generated, feature.name]), codes, first, second, verified.threshold)
            for generated in GENERATED
        }
        same_percent = float(100 * (same >= verified.threshold).mean())
        results[feature.name] = IdentityKeptResult(verified, same_percent, float(same.mean()), kept)
    return results


@torch.inference_mode()
def generate(model: FaceCycle, images: Tensor) -> tuple[Tensor, Tensor]:
    """Neutral faces of the first half of pictures (2B, 3, S, S), and those with the expressions of the second half.

    Normalized pictures in; (B, 3, S, S) in [0, 1] out.
    """
    forward, backward = model.flows(model.embed(images, cycle_error=False).expression)
    faces, motions = images.chunk(2)[0], backward.chunk(2)[1]
    neutral = model.neutral_face(faces, forward.chunk(2)[0])
    return denormalize(neutral), denormalize(model.re_express(neutral, motions))


def _read(images: Tensor, features: Sequence[Feature]) -> dict[str, np.ndarray]:
    """Each feature's vectors of pictures (B, 3, S, S) in [0, 1]."""
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    sides = {feature.side_px for feature in features}
    batches = {side: np.stack([resize(Image.fromarray(face), side) for face in pixels]) for side in sides}
    return {feature.name: feature(batches[feature.side_px]) for feature in features}


def _judge(vectors: np.ndarray, codes: np.ndarray, first: np.ndarray, second: np.ndarray, threshold: float) -> Kept:
    """Generated faces' `vectors` (P, D) against rows `first` (their originals) and `second` of `codes` (N, D)."""
    both = np.concatenate([vectors, codes])
    own, other = (cosines(both, np.arange(len(vectors)), len(vectors) + rows) for rows in (first, second))
    return Kept(
        kept_percent=float(100 * (own >= threshold).mean()),
        mean_cosine=float(own.mean()),
        other_percent=float(100 * (other >= threshold).mean()),
        other_cosine=float(other.mean()),
    )
