"""Puts a square face back into the picture that it was cut from: its colors matched, its edge out of sight.

Coordinates and affines are those of `crop`; here an affine may turn the square, too.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from fcvideo.faces.crop import Framing

FRAMING = Framing(side_factor=1.25)  # the default model's
# The face in heights of the detector's box, from the box's centre: an ellipse that holds brow, cheeks and chin, and
# tapers below its middle: beside the jaw another pose would bring its background along.
ELLIPSE_CENTER_Y, ELLIPSE_HALF_WIDTH, ELLIPSE_HALF_HEIGHT, TAPER = 0.04, 0.42, 0.53, 0.25
SOFTNESS = 0.35  # the part of the ellipse's radius over which the mask falls from 1 to 0
BORDER = 0.06  # of the square's side: from here on the mask falls to 0 at the border
# Contrast and color may be lowered to nothing (a dark or a gray picture), but not raised without end, and what deviates
# by less than this is noise.
LARGEST_GAIN, FLAT_DEVIATION = 1.3, 3.0
# What hides a face reaches this many of the box's sides, around hair and chin; the ellipse of a blur, whose corners are
# round, reaches further, and ends softly beyond that. Of the face itself, four cells by four are left.
BOX_REACH, BLUR_REACH, BLUR_EDGE = 1.35, 1.6, 1.15
LEAST_WIDTH = 0.8  # of its height: a box of a profile is narrow
BLUR_CELLS = 6  # across the ellipse
STATISTICS_PX = 128  # a larger face's mean and deviation are those of every second, third .. pixel
TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


@functools.lru_cache(maxsize=16)
def soft_mask(side_px: int, framing: Framing = FRAMING, softness: float = SOFTNESS) -> np.ndarray:
    """float32 (side_px, side_px), read-only: 1 on the face, falling smoothly to exactly 0 at the square's border."""
    at = (np.arange(side_px) + 0.5) / side_px
    x = (at - framing.center[0]) * framing.side_factor / ELLIPSE_HALF_WIDTH
    y = ((at - framing.center[1]) * framing.side_factor - ELLIPSE_CENTER_Y) / ELLIPSE_HALF_HEIGHT
    taper = 1 - TAPER * np.clip(y, 0, 1)[:, None] ** 2
    ellipse = _ramp((1 - np.hypot(x / taper, y[:, None])) / softness)
    mask = (ellipse * square_mask(side_px)).astype(np.float32)
    mask.flags.writeable = False
    return mask


@functools.lru_cache(maxsize=16)
def square_mask(side_px: int) -> np.ndarray:
    """float32 (side_px, side_px), read-only: 1 but for the square's border, where it falls smoothly to exactly 0.

    For faces whose surroundings agree with the picture's near the border.
    """
    # The middle of the outermost pixels counts as the border.
    at = (np.arange(side_px) + 0.5) / side_px
    border = _ramp((np.minimum(at, 1 - at) - 0.5 / side_px) / BORDER)
    mask = (border * border[:, None]).astype(np.float32)
    mask.flags.writeable = False
    return mask


def _ramp(values: np.ndarray) -> np.ndarray:
    """From 0 at 0 to 1 at 1 with level ends."""
    values = np.clip(values, 0, 1)
    return values * values * (3 - 2 * values)


def match_color(face: np.ndarray, original: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The face (S, S, 3) with the brightness, contrast and color of `original` (S, S, 3), as their masked mean and
    deviation in Y'CbCr have it; of the face's dtype, uint8 or float32 on the same scale. `mask` (S, S) weighs pixels.
    """
    our_mean, our_deviation = _statistics(face, mask)
    their_mean, their_deviation = _statistics(original, mask)
    gain = np.minimum(their_deviation / np.maximum(our_deviation, FLAT_DEVIATION), LARGEST_GAIN)
    change = np.linalg.inv(TO_YCC) @ (gain[:, None] * TO_YCC)
    matched = (face.reshape(-1, 3).astype(np.float32) @ change.T.astype(np.float32)).reshape(len(face), -1)
    matched += np.tile((their_mean - change @ our_mean).astype(np.float32), len(face))  # 10 x faster than by threes
    np.clip(matched, 0, 255, out=matched)
    matched = matched.reshape(face.shape)
    return matched.round().astype(np.uint8) if face.dtype == np.uint8 else matched


def _statistics(picture: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean color (3,) in RGB and deviation (3,) in Y'CbCr, float64, of a picture (S, S, 3) where the mask is."""
    step = max(1, len(picture) // STATISTICS_PX)
    colors = picture[::step, ::step].reshape(-1, 3).astype(np.float64)
    weights = mask[::step, ::step].ravel() / max(float(mask[::step, ::step].sum()), 1e-6)
    mean = weights @ colors
    colors -= mean
    spread = TO_YCC @ ((colors * weights[:, None]).T @ colors) @ TO_YCC.T
    return mean, np.sqrt(np.maximum(np.diag(spread), 0))


def paste_face(
    picture: np.ndarray, face: np.ndarray, affine: np.ndarray, strength: float = 1.0, mask: np.ndarray | None = None
) -> np.ndarray:
    """A copy of `picture` uint8 (H, W, 3) with `face` blended in where `affine` (2, 3) cut it out.

    `face` (S, S, 3) is uint8, or float32 on the same scale; `mask` (S, S) float32 is `soft_mask(S)` by default;
    `affine` is a similarity. Outside the square, and at `strength` 0 everywhere, the picture's bytes stay.
    """
    side_px = len(face)
    result = picture.copy()
    if strength <= 0:
        return result
    mask = soft_mask(side_px) if mask is None else mask
    rows, columns = _covered(mask, affine, picture.shape[0], picture.shape[1])
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return result
    planes = torch.cat([_planes(face), _planes(mask[..., None] * np.float32(strength))])[None]
    scale = math.hypot(affine[0, 0], affine[1, 0])  # the crop's pixels to one of the picture's
    if scale > 1:  # as small as in the picture: sampling alone would skip pixels
        small = max(1, math.ceil(side_px / scale))
        planes = F.interpolate(planes, (small, small), mode="bicubic", antialias=True)
    grid = _grid(affine / side_px, rows, columns)
    # A real face cut out at 64, 300, 512 px and pasted back is off by 2.9, 0.4, 0.4 of 255; bilinear by 3.7, 0.6, 0.7.
    warped = F.grid_sample(planes, grid, mode="bicubic", padding_mode="border", align_corners=False)[0]
    weight = warped[3].clamp_(0, 1) * ((grid[0, ..., 0].abs() <= 1) & (grid[0, ..., 1].abs() <= 1))
    region = _planes(result[rows, columns])
    blended = warped[:3].sub_(region).mul_(weight).add_(region)
    result[rows, columns] = blended.round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return result


def hide_face(picture: np.ndarray, box: np.ndarray, *, is_blurred: bool) -> np.ndarray:
    """A copy of `picture` uint8 (H, W, 3) in which nothing can be told of the face in `box` (4,) x, y, w, h: it lies
    under a black box, or, `is_blurred`, is the smooth surface through BLUR_CELLS averages.
    """
    middle, height = box[:2] + box[2:] / 2, float(box[3])
    sides = np.array([max(float(box[2]), LEAST_WIDTH * height), height])
    half = sides / 2 * (BLUR_REACH * BLUR_EDGE if is_blurred else BOX_REACH)
    near = np.clip(np.floor(middle - half), 0, picture.shape[1::-1]).astype(int)
    far = np.clip(np.ceil(middle + half), 0, picture.shape[1::-1]).astype(int)
    result = picture.copy()
    if (far <= near).any():
        return result
    rows, columns = slice(near[1], far[1]), slice(near[0], far[0])
    if not is_blurred:
        result[rows, columns] = 0
        return result
    region = Image.fromarray(picture[rows, columns])
    cell = 2 * half[0] / BLUR_CELLS
    cells = [max(1, round(size / cell)) for size in region.size]
    coarse = np.asarray(region.resize((cells[0], cells[1]), Image.Resampling.BOX).resize(region.size))
    y, x = np.ogrid[rows, columns]
    radii = sides / 2 * BLUR_REACH
    distance = np.hypot((x + 0.5 - middle[0]) / radii[0], (y + 0.5 - middle[1]) / radii[1])
    weight = _ramp((BLUR_EDGE - distance) / (BLUR_EDGE - 1))[..., None]
    result[rows, columns] = (picture[rows, columns] * (1 - weight) + coarse * weight).round().astype(np.uint8)
    return result


def _planes(image: np.ndarray) -> torch.Tensor:
    """(C, H, W) float32 of (H, W, C)."""
    return torch.from_numpy(image).permute(2, 0, 1).float()


def _covered(mask: np.ndarray, affine: np.ndarray, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the picture that the mask's bounding box reaches; may be empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    x, y = ((places[0], places[-1] + 1) for places in (columns, rows))
    corners = np.array([[left, top] for left in x for top in y], np.float64)
    corners = (corners - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T
    first, last = np.floor(corners.min(axis=0) - 0.5), np.ceil(corners.max(axis=0) + 0.5)
    first, last = np.maximum(first, 0).astype(int), np.minimum(last, (width, height)).astype(int)
    return slice(int(first[1]), int(last[1])), slice(int(first[0]), int(last[0]))


def _grid(to_unit: np.ndarray, rows: slice, columns: slice) -> torch.Tensor:
    """(1, h, w, 2) float32, -1 to 1 from border to border: where a region's pixels lie in the square.

    `to_unit` (2, 3) maps the picture to 0 to 1.
    """
    height, width = rows.stop - rows.start, columns.stop - columns.start
    half = np.array([width, height]) / 2  # the region's own coordinates run from -1 to 1, too
    middle = to_unit @ [columns.start + half[0], rows.start + half[1], 1.0]
    theta = np.concatenate([2 * to_unit[:, :2] * half, 2 * middle[:, None] - 1], axis=1)
    return F.affine_grid(torch.from_numpy(theta[None]).float(), [1, 1, height, width], align_corners=False)
