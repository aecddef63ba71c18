"""Who is who over time within one video: a pass over its finished rows, so that segments and workers leave no trace.

Faces of neighbouring frames are paired by how little their boxes and, where given, their codes changed. Who a person
is across cuts or videos is not decided here.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

# A move is the centre's way in box sizes plus the log ratio of the sizes. From frame to frame of real clips at 25 to 30
# fps it is 0.01 to 0.1. The liveliest of ten clips reached 0.33; the nearest boxes across three cuts were 0.49, 0.57
# and 2.2 apart.
FIRM_MOVE, FIRM_MOVE_PER_SECOND = 0.35, 2.0  # up to here, boxes alone say that it is the same face
LOOSE_MOVE, LOOSE_MOVE_PER_SECOND = 0.6, 3.0  # beyond, it is another
LARGEST_MOVE = 1.5
GAP_SECONDS = 1.0  # a face that is away for longer returns as a new track; in sparsely sampled videos STEPS_PER_GAP
STEPS_PER_GAP = 2.5
LONGEST_GAP_SECONDS = 5.0
FLASH_SECONDS = 0.2  # a jump of all faces that lasts less was a miss and a false box, or one picture, and no cut
UNLIKE = 4.0  # a code that changes by this many times the usual is another face's
LEAST_USUAL_CHANGE = 0.005  # of 1 - cosine; a still picture's codes do not change at all
NUM_SAMPLES = 4096  # pairs looked at to learn what is usual
CODE_MEMORY = 0.7  # how much of a track's code a new face leaves


def assign_tracks(
    frame_index: np.ndarray, pts_seconds: np.ndarray, boxes: np.ndarray, codes: np.ndarray | None = None
) -> np.ndarray:
    """Track of every face, (N,) int32, numbered by first appearance, the larger face first within a frame.

    Rows in any order: `frame_index` (N,), `pts_seconds` (N,), `boxes` (N, 4) x, y, w, h, `codes` (N, D) of any scale.
    A cut ends all tracks; gaps of a second are bridged. Time and memory are linear in N.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    order = np.lexsort((boxes[:, 1], boxes[:, 0], -boxes[:, 2] * boxes[:, 3], frame_index))
    starts = np.flatnonzero(np.diff(np.asarray(frame_index)[order], prepend=-1))
    frames = [slice(a, b) for a, b in itertools.pairwise([*starts.tolist(), len(order)])]
    times = np.asarray(pts_seconds, np.float64)[order]
    tracker = _Tracker(frames, times, boxes[order])
    if codes is not None:
        tracker = _Tracker(frames, times, boxes[order], _Codes(codes, order, tracker.firm_pairs()))
    ids = np.empty(len(order), np.int32)
    ids[order] = tracker.ids
    return ids


class _Codes:
    """Codes as directions, made row by row (the table may be large), and how much they change from frame to frame."""

    def __init__(self, codes: np.ndarray, order: np.ndarray, firm_pairs: np.ndarray) -> None:
        self._codes, self._order = codes, order
        self.usual_change = LEAST_USUAL_CHANGE
        if len(firm_pairs):
            before, after = self[firm_pairs[:, 0]], self[firm_pairs[:, 1]]
            change = np.percentile(1 - (before * after).sum(axis=1), 95)
            self.usual_change = max(float(change), LEAST_USUAL_CHANGE)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return _directions(np.nan_to_num(self._codes[self._order[rows]].astype(np.float32)))


def _directions(codes: np.ndarray) -> np.ndarray:
    return codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-12)


@dataclass
class _Open:
    """Tracks that may go on; parallel arrays."""

    ids: np.ndarray
    rows: np.ndarray  # where each was seen last
    until: np.ndarray  # time at which it is given up
    codes: np.ndarray  # (T, D) running directions; D is 0 without codes

    def __getitem__(self, chosen: np.ndarray) -> _Open:
        return _Open(*(values[chosen] for values in vars(self).values()))

    def __add__(self, other: _Open) -> _Open:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Open(*(np.concatenate(pair) for pair in pairs))


class _Tracker:
    """`ids` of all rows after one run over `frames`, slices of rows in the order of time."""

    def __init__(self, frames: list[slice], times: np.ndarray, boxes: np.ndarray, codes: _Codes | None = None) -> None:
        self.ids = np.full(len(times), -1, np.int32)
        self._times, self._codes = times, codes
        self._centers = boxes[:, :2] + boxes[:, 2:] / 2
        self._sizes = np.sqrt(np.maximum(boxes[:, 2] * boxes[:, 3], 1e-6))
        self._before = np.full(len(times), -1)  # the row that a row goes on from, where their boxes are a firm pair
        self._num_tracks = 0
        steps = np.diff(times[[frame.start for frame in frames]])
        self._step_seconds = float(np.median(steps)) if len(steps) else 0.0
        self._gap_seconds = max(GAP_SECONDS, min(STEPS_PER_GAP * self._step_seconds, LONGEST_GAP_SECONDS))
        tracks = self._begin(np.arange(0), self._codes_of(np.arange(0)))
        for frame in frames:
            tracks = self._advance(tracks, frame)

    def firm_pairs(self) -> np.ndarray:
        """(P, 2) rows, an even sample of NUM_SAMPLES at most."""
        rows = np.flatnonzero(self._before >= 0)
        rows = rows[:: len(rows) // NUM_SAMPLES + 1]
        return np.stack([self._before[rows], rows], axis=1)

    def _codes_of(self, rows: np.ndarray) -> np.ndarray:
        return np.empty((len(rows), 0), np.float32) if self._codes is None else self._codes[rows]

    def _begin(self, rows: np.ndarray, codes: np.ndarray) -> _Open:
        self.ids[rows] = self._num_tracks + np.arange(len(rows))
        self._num_tracks += len(rows)
        return _Open(self.ids[rows], rows, self._times[rows] + self._gap_seconds, codes)

    def _advance(self, tracks: _Open, frame: slice) -> _Open:
        """The open tracks after `frame`."""
        rows, now = np.arange(frame.start, frame.stop), self._times[frame.start]
        codes = self._codes_of(rows)
        tracks = tracks[tracks.until >= now]
        old, new, is_sure = self._pair(tracks, rows, codes)
        if not is_sure.any() and self._is_next(tracks, now):  # every face jumped: a cut
            tracks.until = np.minimum(tracks.until, now + FLASH_SECONDS)
            return tracks + self._begin(rows, codes)
        self.ids[rows[new]] = tracks.ids[old]
        tracks.rows[old] = rows[new]
        tracks.until[old] = now + self._gap_seconds
        tracks.codes[old] = _directions(CODE_MEMORY * tracks.codes[old] + (1 - CODE_MEMORY) * codes[new])
        return tracks + self._begin(np.delete(rows, new), np.delete(codes, new, axis=0))

    def _is_next(self, tracks: _Open, now: float) -> bool:
        """Whether faces were seen just before."""
        return bool((now - self._times[tracks.rows] <= STEPS_PER_GAP * self._step_seconds).any())

    def _pair(self, tracks: _Open, rows: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions in `tracks` and in `rows` of the faces that are the same, and whether that is sure."""
        if not len(tracks.ids):
            return np.arange(0), np.arange(0), np.arange(0)
        away = np.maximum(self._times[rows[0]] - self._times[tracks.rows], 0)[:, None]
        loose = np.minimum(LOOSE_MOVE + LOOSE_MOVE_PER_SECOND * away, LARGEST_MOVE)
        firm = np.minimum(FIRM_MOVE + FIRM_MOVE_PER_SECOND * away, LARGEST_MOVE)
        move = self._moves(tracks.rows, rows)
        is_possible, is_sure, cost = move <= loose, move <= firm, move / loose
        if self._codes is not None:
            change = (1 - tracks.codes @ codes.T) / self._codes.usual_change
            is_possible &= change <= UNLIKE
            is_sure |= change <= 1
            cost += change / UNLIKE
        old, new = linear_sum_assignment(np.where(is_possible, cost, 1e3))
        kept = is_possible[old, new]
        old, new = old[kept], new[kept]
        is_firm = move[old, new] <= FIRM_MOVE
        self._before[rows[new[is_firm]]] = tracks.rows[old[is_firm]]
        return old, new, is_sure[old, new]

    def _moves(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        way = np.linalg.norm(self._centers[before][:, None] - self._centers[after], axis=2)
        sizes, new_sizes = self._sizes[before][:, None], self._sizes[after]
        return way / np.sqrt(sizes * new_sizes) + np.abs(np.log(new_sizes / sizes))
