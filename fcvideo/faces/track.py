"""Who is who over time within one video: a pass over its finished rows, so that segments and workers leave no trace.

Faces of neighbouring frames are paired by how little their boxes and, where given, their codes changed: these are
stretches, which a cut or a long gap ends. With codes, `_join_people` then gives the stretches of one person one number;
who a person is across videos is not decided here.
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
# Cosine of the mean identity codes of two stretches from which they are one person's. Of 7,300 pairs of clips of
# different people the likest came to 0.781; of faces within a clip 93 % are above 0.8, of one person's clips from
# different recordings 7 %.
SAME_PERSON = 0.8
# The same of two stretches, the second of which begins where and when the first ends: 122 clips of 37 people, each in
# the place of the one before, merge 0 people in four orders (1 of 488 changes at 0.7).
GOES_ON = 0.75
SURE_FACES = 5  # a stretch of fewer is no evidence of how alike two people look
NUM_PEOPLE = 1024  # who are looked for again, those seen last: bounds the time
ROWS_AT_ONCE = 16_384


def assign_tracks(
    frame_index: np.ndarray, pts_seconds: np.ndarray, boxes: np.ndarray, codes: np.ndarray | None = None
) -> np.ndarray:
    """Track of every face, (N,) int32, numbered by first appearance, the larger face first within a frame.

    Rows in any order: `frame_index` (N,), `pts_seconds` (N,), `boxes` (N, 4) x, y, w, h, `codes` (N, D) of any scale.
    Without codes a track is one unbroken stretch: a cut ends it, gaps of a second are bridged. With identity codes it
    is a person as far as they tell for sure: all stretches that look the same, over gaps and cuts of any length. One
    may still have several tracks (seen from another side, in other light). Time and memory are linear in N.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    order = np.lexsort((boxes[:, 1], boxes[:, 0], -boxes[:, 2] * boxes[:, 3], frame_index))
    starts = np.flatnonzero(np.diff(np.asarray(frame_index)[order], prepend=-1))
    frames = [slice(a, b) for a, b in itertools.pairwise([*starts.tolist(), len(order)])]
    times = np.asarray(pts_seconds, np.float64)[order]
    tracker = _Tracker(frames, times, boxes[order])
    if codes is not None:
        directions = _Codes(codes, order, tracker.firm_pairs())
        tracker = _Tracker(frames, times, boxes[order], directions)
        tracker.ids = _join_people(np.asarray(frame_index)[order], tracker, directions)
    ids = np.empty(len(order), np.int32)
    ids[order] = tracker.ids
    return ids


def _join_people(frame_index: np.ndarray, tracker: _Tracker, codes: _Codes) -> np.ndarray:
    """(N,) int32: the tracker's stretches, with one number for those of one person.

    A stretch joins the person whose mean code is likest, from SAME_PERSON on, and from more where two faces of one
    frame are as alike; or who was just there, if the code is near to that one. Nobody is twice in a frame.
    """
    ids = tracker.ids
    if not len(ids):
        return ids
    num = int(ids.max()) + 1
    sums = np.zeros((num, codes.width), np.float32)
    for start in range(0, len(ids), ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(ids)))
        np.add.at(sums, ids[rows], codes[rows])
    first, last = np.unique(ids, return_index=True)[1], len(ids) - 1 - np.unique(ids[::-1], return_index=True)[1]
    least = _least_likeness(frame_index, ids, sums)
    return _People(codes.width).number(sums, first, last, tracker, frame_index, least)[ids]


def _least_likeness(frame_index: np.ndarray, ids: np.ndarray, sums: np.ndarray) -> float:
    """Above that of any two neighbours in a frame: they are two people, whatever their codes say."""
    at_once = np.flatnonzero(np.diff(frame_index) == 0)
    pairs = np.unique(np.sort(np.stack([ids[at_once], ids[at_once + 1]], axis=1), axis=1), axis=0)
    num_faces = np.bincount(ids)
    pairs = pairs[(num_faces[pairs] >= SURE_FACES).all(axis=1)]
    likest = SAME_PERSON
    for some in np.array_split(pairs, len(pairs) // ROWS_AT_ONCE + 1):
        likeness = (_directions(sums[some[:, 0]]) * _directions(sums[some[:, 1]])).sum(axis=1)
        likest = max(likest, float(likeness.max(initial=0)))
    return likest


class _People:
    """Those seen last, NUM_PEOPLE of them at most: sums of codes, and the last face of each."""

    def __init__(self, width: int) -> None:
        self._sums = np.zeros((NUM_PEOPLE, width), np.float32)
        self._directions, self._recent = np.zeros_like(self._sums), np.zeros_like(self._sums)
        self._rows, self._ids = np.full((2, NUM_PEOPLE), -1)
        self._num = 0

    def number(
        self, sums: np.ndarray, first: np.ndarray, last: np.ndarray, tracker: _Tracker, frame: np.ndarray, least: float
    ) -> np.ndarray:
        """(T,) int32, the person of each stretch; `first` and `last` (T,) are its rows, the first ascending."""
        ids, num_people = np.empty(len(sums), np.int32), 0
        for stretch, total in enumerate(sums):
            (look,), rows = _directions(total[None]), self._rows[: self._num]
            likeness = self._directions[: self._num] @ look - least
            goes_on = tracker.is_near(rows, first[stretch]) & (self._recent[: self._num] @ look > GOES_ON)
            likeness[goes_on] = np.maximum(likeness[goes_on], 1e-6)
            likeness[frame[rows] >= frame[first[stretch]]] = -2
            place = int(likeness.argmax()) if self._num else -1
            if place < 0 or likeness[place] <= 0:
                place = self._room()
                self._sums[place], self._ids[place] = 0, num_people
                num_people += 1
            self._sums[place] += total
            self._directions[place], self._recent[place] = _directions(self._sums[[place]])[0], look
            self._rows[place] = last[stretch]
            ids[stretch] = self._ids[place]
        return ids

    def _room(self) -> int:
        if self._num == NUM_PEOPLE:
            return int(self._rows.argmin())
        self._num += 1
        return self._num - 1


class _Codes:
    """Codes as directions, made row by row (the table may be large), and how much they change from frame to frame."""

    def __init__(self, codes: np.ndarray, order: np.ndarray, firm_pairs: np.ndarray) -> None:
        self._codes, self._order, self.width = codes, order, codes.shape[1]
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

    def is_near(self, before: np.ndarray, after: int) -> np.ndarray:
        """Whether a face at row `after` is where those of the rows `before` (M,) were within GAP_SECONDS."""
        is_soon = self._times[after] - self._times[before] <= self._gap_seconds
        return is_soon & (self._moves(before, np.array([after]))[:, 0] <= FIRM_MOVE)

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


def box_moves(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(N,) moves between boxes (N, 4)."""
    sizes, new_sizes = (np.sqrt(np.maximum(boxes[:, 2] * boxes[:, 3], 1e-6)) for boxes in (before, after))
    way = np.linalg.norm(before[:, :2] + before[:, 2:] / 2 - after[:, :2] - after[:, 2:] / 2, axis=1)
    return way / np.sqrt(sizes * new_sizes) + np.abs(np.log(new_sizes / sizes))
