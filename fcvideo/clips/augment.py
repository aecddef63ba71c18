"""Augmentation: drawn per picture on the CPU as small matrices, applied to whole batches on the training device."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Augmentation:
    """Half-widths of uniform draws; 0 leaves the picture as it is."""

    zoom: float = 0.0  # side of the crop, relative
    aspect: float = 0.0  # width to height, relative
    shift: float = 0.0  # of the picture's side
    rotation_deg: float = 0.0
    color: float = 0.0  # brightness, contrast and saturation, relative
    hue: float = 0.0  # turns
    color_probability: float = 0.8
    gray_probability: float = 0.0

    def framing(self, share: float, rotation_deg: float = 0.0) -> Augmentation:
        """This one with a share of its zoom, aspect and shift, and another rotation."""
        zoom, aspect, shift = (share * value for value in (self.zoom, self.aspect, self.shift))
        return replace(self, zoom=zoom, aspect=aspect, shift=shift, rotation_deg=rotation_deg)


def framing_affine(side_factor: float, stored_side_factor: float, center: tuple[float, float]) -> np.ndarray:
    """(3, 3) from the wanted square to the stored one, both in [-1, 1]; the face's box keeps its place `center`."""
    ratio = side_factor / stored_side_factor
    x, y = (2 * c - 1 for c in center)
    return np.array([[ratio, 0, x * (1 - ratio)], [0, ratio, y * (1 - ratio)], [0, 0, 1]])


def draw_affine(rng: np.random.Generator, spec: Augmentation, flip: bool) -> np.ndarray:
    """(3, 3) from the output square to the input square, both in [-1, 1]."""
    zoom = 1 + rng.uniform(-spec.zoom, spec.zoom)
    aspect = math.sqrt(1 + rng.uniform(-spec.aspect, spec.aspect))
    angle = math.radians(rng.uniform(-spec.rotation_deg, spec.rotation_deg))
    shift_x, shift_y = 2 * rng.uniform(-spec.shift, spec.shift, size=2)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin, shift_x], [sin, cos, shift_y], [0, 0, 1]])
    return turn @ np.diag([zoom * aspect * (-1 if flip else 1), zoom / aspect, 1.0])


def draw_color(rng: np.random.Generator, spec: Augmentation) -> np.ndarray:
    """(3, 4): colors in [0, 1] to colors, as a matrix and an offset."""
    matrix, offset = np.eye(3), np.zeros(3)
    jitter, gray = rng.uniform() < spec.color_probability, rng.uniform() < spec.gray_probability
    brightness, contrast, saturation = 1 + rng.uniform(-spec.color, spec.color, size=3)
    angle = 2 * math.pi * rng.uniform(-spec.hue, spec.hue)
    if jitter:
        matrix = brightness * contrast * (saturation * _rotate_hue(angle) + (1 - saturation) * np.tile(LUMA, (3, 1)))
        offset += 0.5 * (1 - contrast)
    if gray:
        matrix = np.tile(LUMA, (3, 1)) @ matrix
    return np.concatenate([matrix, offset[:, None]], axis=1)


def _rotate_hue(angle: float) -> np.ndarray:
    """Rotation about the gray axis of the color cube (Rodrigues' formula)."""
    axis = np.full(3, 1 / math.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return math.cos(angle) * np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * np.outer(axis, axis)


def apply(images: Tensor, affine: Tensor, color: Tensor, side_px: int) -> Tensor:
    """uint8 (B, 3, S, S), affines (B, 2, 3) and colors (B, 3, 4) to float32 (B, 3, side_px, side_px) in [0, 1].

    Sampled at twice the side and averaged, which filters by area when it shrinks; the border is replicated.
    """
    grid = F.affine_grid(affine, [len(images), 3, 2 * side_px, 2 * side_px], align_corners=False)
    sampled = F.grid_sample(images.float() / 255, grid, mode="bilinear", padding_mode="border", align_corners=False)
    small = F.avg_pool2d(sampled, 2)
    colored = torch.einsum("bij,bjhw->bihw", color[:, :, :3], small) + color[:, :, 3, None, None]
    return colored.clamp(0, 1)
