"""The square that the networks see of a face: one rule for prepare, embed and reenact.

Coordinates count from the upper left corner of the first pixel, so that pixel i covers i to i + 1 and has its centre at
i + 0.5. An affine maps (x, y, 1) of the upright picture to (x, y) of the crop in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fcvideo.config import PUBLISHED_SIDE_FACTOR

if TYPE_CHECKING:
    from fcvideo.models.facecycle import FaceCycleConfig

# A large face is first averaged over blocks of pixels, which is fast: this many or more for a pixel of the crop.
REDUCING_GAP = 3.0


@dataclass(frozen=True)
class Framing:
    """A square of side `side_factor` x the box's height, in which the box's centre lies at `center` (x, y; 0 to 1).

    The defaults are those of the published VoxCeleb crops.
    """

    side_factor: float = PUBLISHED_SIDE_FACTOR
    center: tuple[float, float] = (0.5, 0.40)

    @classmethod
    def of(cls, config: FaceCycleConfig) -> Framing:
        """The one that a model was trained on."""
        return cls(config.framing_side_factor, config.framing_center)


def crop_affine(box: np.ndarray, side_px: int, framing: Framing) -> np.ndarray:
    """(2, 3) float64, from the picture to a crop of side_px x side_px; `box` is x, y, width, height."""
    x, y, width, height = (float(value) for value in box)
    side = framing.side_factor * height
    left = x + width / 2 - framing.center[0] * side
    top = y + height / 2 - framing.center[1] * side
    scale = side_px / side
    return np.array([[scale, 0.0, -scale * left], [0.0, scale, -scale * top]])


def crop_face(image: np.ndarray, affine: np.ndarray, side_px: int) -> np.ndarray:
    """uint8 (side_px, side_px, 3) of `image` uint8 (H, W, 3); what lies outside repeats the border.

    `affine` may scale and move, as `crop_affine`'s does. Area-filtered where it shrinks, bilinear where it enlarges.
    """
    assert affine[0, 1] == affine[1, 0] == 0, affine
    (x_scale, _, x_shift), (_, y_scale, y_shift) = affine.tolist()
    left, columns, x_padding = _span(-x_shift / x_scale, side_px / x_scale, side_px, image.shape[1])
    top, rows, y_padding = _span(-y_shift / y_scale, side_px / y_scale, side_px, image.shape[0])
    region = image[rows, columns]
    if any(x_padding + y_padding):
        region = np.pad(region, (y_padding, x_padding, (0, 0)), mode="edge")
    # Of Pillow's filters the nearest to an average over the exact area: Hamming's is off by 0.4 to 0.8 of 255 for
    # shrinking by 2 to 6, bilinear's by 0.8 to 2.8. Enlarged, Hamming's looks blocky.
    resampling = Image.Resampling.HAMMING if x_scale < 1 else Image.Resampling.BILINEAR
    box = (left, top, left + side_px / x_scale, top + side_px / y_scale)
    return np.array(Image.fromarray(region).resize((side_px, side_px), resampling, box, REDUCING_GAP))


def _span(start: float, length: float, side_px: int, size: int) -> tuple[float, slice, tuple[int, int]]:
    """One axis: the start of the square in the region, the pixels to read for it, and those to add at both ends."""
    reach = max(1.0, length / side_px)  # the filter looks this far beyond the square
    first, last = math.floor(start - reach), math.ceil(start + length + reach)
    read = slice(min(max(first, 0), size - 1), max(min(last, size), 1))
    padding = max(0, read.start - first), max(0, last - read.stop)
    return start - read.start + padding[0], read, padding
