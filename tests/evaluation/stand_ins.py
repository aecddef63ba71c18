"""Stand-ins for models and data sets, simple enough to know every number beforehand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fcvideo.models.facecycle import Embedding, normalize_unit


class Copier(nn.Module):
    """A model of faces without motion: the neutral face is the face, the rebuilt face the neutral one."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(image_side=64)

    def embed(self, images: Tensor, cycle_error: bool) -> Embedding:
        codes = images.mean(dim=(2, 3))
        return Embedding(codes, codes, None)

    def flows(self, expression: Tensor) -> tuple[Tensor, Tensor]:
        return expression, expression

    def neutral_face(self, images: Tensor, forward: Tensor) -> Tensor:
        return images

    def re_express(self, neutral: Tensor, backward: Tensor) -> Tensor:
        return neutral

    def mean_face(self, neutral: Tensor, identity: Tensor) -> Tensor:
        return normalize_unit(torch.full_like(neutral, 0.5))


class Faces:
    """Pictures uint8 (N, S, S, 3) as a data set."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])


def smooth_faces(num: int, seed: int = 0, side: int = 64) -> np.ndarray:
    """uint8 (num, side, side, 3), smooth and all different."""
    coarse = np.random.default_rng(seed).integers(0, 256, (num, 6, 6, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC)) for c in coarse])


def as_model(stand_in: nn.Module) -> Any:
    return stand_in
