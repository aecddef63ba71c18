"""Where one shot ends and the next begins, from a few numbers that are kept of every frame, whoever decoded it.

A function of these signatures alone, so that segments and workers leave no trace.
"""

from __future__ import annotations

import numpy as np

SAMPLES = 64  # of a picture's rows and columns
SIDE, LEVELS = 8, 4  # of the small picture; of each colour in the histogram, closer together where it is dark
SMALL_BYTES, SIZE_BYTES = SIDE * SIDE * 3, 8
SIGNATURE_BYTES = SMALL_BYTES + LEVELS**3 + SIZE_BYTES
_LEVEL = np.minimum((LEVELS * np.sqrt(np.arange(256) / 255)).astype(np.int64), LEVELS - 1)
# A cut changes the histogram by LEAST_CHANGE (Hellinger distance, 0 to 1), and this share of the small picture's cells
# by more than LEAST_MOVE of 255, for good, for a flash goes back at once; and the histogram by TIMES_USUAL more than
# the frames around it. In 12 clips the three cuts come to 0.38, 0.36 and 0.23 and to shares of 0.77 to 0.92; a head in
# a quarter of the picture that is gone at once to a share of 0.38.
LEAST_CHANGE, LEAST_MOVE, LEAST_SHARE, TIMES_USUAL = 0.15, 6, 0.6, 3.0
USUAL_FRAMES = 3  # on either side


def signature(image: np.ndarray) -> np.ndarray:
    """uint8 (SIGNATURE_BYTES,) of a picture uint8 (H, W, 3): the small picture, its histogram's roots, its size."""
    rows, columns = (np.arange(SAMPLES) * size // SAMPLES for size in image.shape[:2])
    points = image[rows[:, None], columns]
    small = points.reshape(SIDE, SAMPLES // SIDE, SIDE, SAMPLES // SIDE, 3).mean(axis=(1, 3))
    bins = _LEVEL[points.reshape(-1, 3)] @ [LEVELS**2, LEVELS, 1]
    roots = 255 / SAMPLES * np.sqrt(np.bincount(bins, minlength=LEVELS**3))
    size = np.array(image.shape[:2], "<u4").view(np.uint8)
    return np.concatenate([np.concatenate([small.ravel(), roots]).round().astype(np.uint8), size])


class CutFinder:
    """Takes the signatures of frames in order, in any portions; keeps 24 bytes a frame."""

    def __init__(self) -> None:
        self._recent = np.empty((0, SIGNATURE_BYTES), np.float32)
        # Of the histogram and the small picture, against the frame before, the one before that, and the third.
        self._changes = [np.empty((0, 2, 3), np.float32)]
        self._is_resized = [np.empty(0, bool)]

    def add(self, signatures: np.ndarray) -> None:
        """uint8 (N, SIGNATURE_BYTES)."""
        known = len(self._recent)
        frames = np.concatenate([self._recent, signatures.astype(np.float32)])
        changes = np.full((len(signatures), 2, 3), np.nan, np.float32)
        for step in (1, 2, 3):
            first = max(known, step)  # of the frames that have one so far before them
            apart = frames[first:] - frames[first - step : len(frames) - step]
            histogram = np.sqrt((apart[:, SMALL_BYTES:-SIZE_BYTES] ** 2).sum(axis=1) / 2) / 255
            changes[first - known :, 0, step - 1] = histogram
            cells = np.abs(apart[:, :SMALL_BYTES]).reshape(len(apart), SIDE * SIDE, 3).max(axis=2)
            changes[first - known :, 1, step - 1] = (cells > LEAST_MOVE).mean(axis=1)
        self._changes.append(changes)
        sizes = frames[:, -SIZE_BYTES:]
        self._is_resized.append((np.diff(sizes, axis=0, prepend=sizes[:1]) != 0).any(axis=1)[known:])
        self._recent = frames[-3:]

    def cuts(self) -> np.ndarray:
        """Positions (C,) int64 of the first frames of shots, but for the video's own first.

        Pictures of another size are another shot, for boxes count in their pixels.
        """
        changes = np.concatenate(self._changes)
        if not len(changes):
            return np.empty(0, np.int64)
        lasting = np.concatenate([changes, _next(changes)[:, :, 1:]], axis=2)  # the next frame's to those before
        lasting = np.nan_to_num(np.fmin.reduce(lasting[:, :, [0, 1, 3, 4]], axis=2))
        motion = np.pad(changes[:, 0, 0], USUAL_FRAMES)
        near = np.nan_to_num(np.lib.stride_tricks.sliding_window_view(motion, 2 * USUAL_FRAMES + 1))
        before, after = near[:, :USUAL_FRAMES], near[:, -USUAL_FRAMES:]
        usual = np.maximum(np.median(before, axis=1), np.median(after, axis=1))
        is_cut = (lasting[:, 0] > np.maximum(LEAST_CHANGE, TIMES_USUAL * usual)) & (lasting[:, 1] > LEAST_SHARE)
        found = np.flatnonzero(is_cut)
        found = found[np.diff(found, append=len(changes) + 2) > 1]  # a picture that is half of both is the old shot's
        return np.union1d(found, np.flatnonzero(np.concatenate(self._is_resized)))


def _next(changes: np.ndarray) -> np.ndarray:
    return np.concatenate([changes[1:], np.full_like(changes[:1], np.nan)])
