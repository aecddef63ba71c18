"""Smooths boxes and codes over time without lag, at any frame rate, to both ends of a stretch.

Where the stretches end (cuts, long gaps) is `steady`'s to say.
"""

from __future__ import annotations

import numpy as np

# Two filters, by the deviations of their Gaussians: the calm one, this wide, and a quick one. A box keeps to the calm
# one while both agree, and goes over to the quick one where they differ by more than noise does: a real move.
# Boxes of noisy still pictures (five clips, 30 frames/s) then move 20 times less from frame to frame (8 at the least),
# and heads that dance, walk and shake are within 1.8 % of their size of the quick filter's; the calm one alone cuts
# their corners by 16 %, and one of 0.15 s, with a still head's jitter 14 times less, by 12 %.
SMOOTH_SECONDS = 0.2
QUICK_SHARE = 0.35  # of the calm filter's width
# Differences that are halved: of the centre in heights, and of the log size, where a mouth that opens is noise, too.
CENTER_NOISE, SIZE_NOISE = 0.02, 0.1
WINDOW = 3.0  # deviations of the Gaussian beyond which a box has no say
OUTLIER_ROWS = 7  # a box is compared with this many, itself among them
OUTLIER_DEVIATIONS, OUTLIER_MOVE = 4.0, 0.05  # off by this many usual deviations, and by this part of its size


def smooth_boxes(times: np.ndarray, boxes: np.ndarray, stretch: np.ndarray, seconds: float) -> np.ndarray:
    """Boxes (M, 4) x y w h float64 at ascending `times` (M,), smoothed within each `stretch` (M,), ascending numbers.

    Steady and evenly accelerated motion is kept exactly; a single box far off its neighbours leaves no trace. At
    `seconds` 0 they stay as they are.
    """
    if seconds <= 0:
        return boxes
    shapes = _shapes(boxes)
    weights = 1.0 - _outliers(times, shapes, stretch)
    calm = local_parabolas(times, shapes, weights, stretch, seconds)
    quick = local_parabolas(times, shapes, weights, stretch, QUICK_SHARE * seconds)
    height = np.exp(calm[:, 3])
    noise = np.stack([CENTER_NOISE * height] * 2 + [np.full(len(boxes), SIZE_NOISE)] * 2, axis=1)
    apart = calm - quick
    return _boxes(quick + apart / (1 + (apart / noise) ** 2))


def _shapes(boxes: np.ndarray) -> np.ndarray:
    """Centre x, y and log width, height: in these a head that moves or nears evenly draws straight lines."""
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, np.log(np.maximum(boxes[:, 2:], 1e-3))], axis=1)


def _boxes(shapes: np.ndarray) -> np.ndarray:
    sizes = np.exp(shapes[:, 2:])
    return np.concatenate([shapes[:, :2] - sizes / 2, sizes], axis=1)


def _outliers(times: np.ndarray, shapes: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    """Which of M boxes are alone in being far from where their neighbours say, bool (Hampel's filter around the usual
    motion). Several in a row are a sudden move: without them a parabola would fly off.
    """
    begins = np.searchsorted(stretch, stretch, "left")
    ends = np.searchsorted(stretch, stretch, "right")
    rows = np.flatnonzero(ends - begins >= OUTLIER_ROWS)
    start = np.clip(rows - OUTLIER_ROWS // 2, begins[rows], ends[rows] - OUTLIER_ROWS)
    near = start[:, None] + np.arange(OUTLIER_ROWS)
    away = times[near] - times[rows, None]
    steps = np.maximum(np.diff(times[near], axis=1), 1e-6)
    size = np.exp(np.median(shapes[:, 3][near], axis=1))
    is_outlier = np.zeros(len(times), bool)
    for channel, unit in zip(shapes.T, (size, size, 1.0, 1.0), strict=True):
        speed = np.median(np.diff(channel[near], axis=1) / steps, axis=1)
        level = channel[near] - speed[:, None] * away
        middle = np.median(level, axis=1)
        deviation = 1.4826 * np.median(np.abs(level - middle[:, None]), axis=1)
        limit = np.maximum(OUTLIER_DEVIATIONS * deviation, OUTLIER_MOVE * unit)
        is_outlier[rows] |= np.abs(channel[rows] - middle) > limit
    neighbours = np.pad(is_outlier, 1)
    return is_outlier & ~neighbours[:-2] & ~neighbours[2:]


def local_parabolas(
    times: np.ndarray, values: np.ndarray, weights: np.ndarray, stretch: np.ndarray, seconds: float
) -> np.ndarray:
    """At each of M times the parabola that fits `values` (M, C) best near it, by least squares with Gaussian weights.

    Local regression (Cleveland 1979), by sums over shifted rows: linear in M, and exact for steady and for evenly
    accelerated motion, up to both ends.
    """
    # Moments of the neighbours around a row: of time, and of the values' difference to the row's own.
    moments = np.zeros((5, len(times)))
    moments[0] = weights
    pulls = np.zeros((3, *values.shape))
    for step in range(1, len(times)):
        away = (times[step:] - times[:-step]) / seconds
        is_near = (away <= WINDOW) & (stretch[step:] == stretch[:-step])
        if not is_near.any():
            break
        gauss = np.exp(-away * away / 2) * is_near
        change = values[step:] - values[:-step]
        earlier, later = slice(None, -step), slice(step, None)
        for here, there, sign in ((earlier, later, 1), (later, earlier, -1)):
            share = gauss * weights[there]
            for power in range(5):
                moments[power, here] += share
                if power < 3:
                    pulls[power, here] += share[:, None] * change * sign
                share = share * away * sign
    s0, s1, s2, s3, s4 = moments
    s2, s4 = s2 + 1e-9, s4 + 1e-9  # a row with too few neighbours for a parabola gets the flattest
    c0, c1, c2 = s2 * s4 - s3 * s3, s2 * s3 - s1 * s4, s1 * s3 - s2 * s2
    scale = s0 * c0 + s1 * c1 + s2 * c2
    correction = c0[:, None] * pulls[0] + c1[:, None] * pulls[1] + c2[:, None] * pulls[2]
    return values + np.divide(correction, scale[:, None], out=np.zeros_like(values), where=scale[:, None] > 0)
