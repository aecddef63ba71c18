"""From a video's detections to one steady face for every frame: whose, where, and what stands in while it is away.

A pass over finished rows, like `track`: the result knows nothing of segments or workers.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np

from fcvideo.errors import InputError
from fcvideo.faces.smoothing import SMOOTH_SECONDS, local_parabolas, smooth_boxes
from fcvideo.faces.track import GAP_SECONDS, LOOSE_MOVE, LOOSE_MOVE_PER_SECOND, STEPS_PER_GAP, box_moves

BRIDGE_SECONDS = 0.5  # a face that is away for less is where the boxes before and after say
FADE_SECONDS = 0.25  # half a bridge: a face that is away for longer fades all the way
SHORTEST_LIFE_SECONDS = 0.2  # a shorter track does not stand in for the main face: mostly a false box
CODE_COLUMNS = 16  # smoothed at a time: a ten-hour video's codes fill a gigabyte


@dataclass(frozen=True)
class SteadyFace:
    """One face over all F frames of a video.

    Away for long, the face is held as last seen; in the last FADE_SECONDS before its return, as then seen first.
    """

    boxes: np.ndarray  # (F, 4) float64, x y w h in pixels of the upright picture; NaN in a video without the face
    presence: np.ndarray  # (F,) float32: 1 seen or bridged, falls to 0 in FADE_SECONDS where away for longer
    shown: np.ndarray  # (F,) int64: the frame whose face is to be shown, itself where seen or bridged; -1 for none
    is_seen: np.ndarray  # (F,) bool
    stretch: np.ndarray  # (F,) int64: number of the unbroken stretch that the frame is part of; -1 where away


def choose_face(
    frame_index: np.ndarray,
    pts_seconds: np.ndarray,
    boxes: np.ndarray,
    track_ids: np.ndarray,
    *,
    face: int | None = None,
    at: tuple[float, float] | None = None,
) -> np.ndarray:
    """Rows (M,) int64 that show the wanted face, one per frame at most, in order of time; all arguments (N, ..).

    The track with the most area x time, and while it is away the next ones that do not overlap those taken. Or
    track `face` alone; or that which first appears nearest to `at`, x and y in pixels of the upright picture.
    Errors: InputError, one line without the file's name.
    """
    lives = _Lives(frame_index, pts_seconds, np.asarray(boxes, np.float64).reshape(-1, 4), track_ids)
    if face is not None and at is not None:
        raise InputError("--face and --at: found both, expected one of them")
    if face is not None:
        taken = lives.numbered(face)
    elif at is not None:
        taken = lives.nearest(at)
    else:
        taken = lives.main()
    rows = np.flatnonzero(np.isin(lives.of_row, taken))
    return rows[np.argsort(np.asarray(frame_index)[rows], kind="stable")]


class _Lives:
    """The times at which the tracks of some rows are there without a long gap: when, and how much of the video."""

    def __init__(
        self, frame_index: np.ndarray, pts_seconds: np.ndarray, boxes: np.ndarray, track_ids: np.ndarray
    ) -> None:
        order = np.lexsort((frame_index, track_ids))
        frame_index, times = np.asarray(frame_index), np.asarray(pts_seconds, np.float64)
        track_ids = np.asarray(track_ids)
        steps = np.diff(np.unique(times))
        gap = max(GAP_SECONDS, STEPS_PER_GAP * float(np.median(steps))) if len(steps) else GAP_SECONDS
        is_new = (np.diff(track_ids[order]) != 0) | (np.diff(times[order]) > gap)
        begins = np.flatnonzero(np.append(True, is_new)) if len(order) else np.empty(0, np.int64)
        first, last = order[begins], order[np.append(begins[1:], len(order)) - 1] if len(order) else order
        self.of_row = np.empty(len(order), np.int64)
        self.of_row[order] = np.cumsum(np.append(False, is_new)[: len(order)])
        self.ids = track_ids[first]
        self.first_frame, self.last_frame = frame_index[first], frame_index[last]
        self.first_boxes = boxes[first]
        self.seconds = times[last] - times[first]
        fill = boxes[:, 2] * boxes[:, 3] * _durations(frame_index, times)
        self.fill = np.add.reduceat(fill[order], begins) if len(order) else np.empty(0)

    def numbered(self, face: int) -> list[int]:
        if face in self.ids:
            return np.flatnonzero(self.ids == face).tolist()
        if not len(self.ids):
            raise InputError(f"--face {face}: found no faces")
        low, high = self.ids[[0, -1]]
        raise InputError(f"--face {face}: found " + (f"tracks {low} to {high}" if low < high else f"track {low} alone"))

    def nearest(self, at: tuple[float, float]) -> list[int]:
        """Of several whose first box holds the point, the earliest, then that which is nearest to its centre."""
        if not len(self.ids):
            raise InputError(f"--at {at[0]:g},{at[1]:g}: found no faces")
        corner, size = self.first_boxes[:, :2], self.first_boxes[:, 2:]
        outside = np.maximum(np.maximum(corner - at, at - (corner + size)), 0)
        off_center = np.linalg.norm((corner + size / 2 - at) / np.maximum(size, 1e-6), axis=1)
        return self.numbered(self.ids[np.lexsort((off_center, self.first_frame, np.linalg.norm(outside, axis=1)))[0]])

    def main(self) -> list[int]:
        taken: list[int] = []
        spans: list[tuple[int, int]] = []  # of those taken, first and last frame, in order
        _, track = np.unique(self.ids, return_inverse=True)
        fill = np.bincount(track, weights=self.fill)[track]
        for life in np.lexsort((self.first_frame, track, -fill)).tolist():
            if taken and self.ids[life] != self.ids[taken[0]] and self.seconds[life] < SHORTEST_LIFE_SECONDS:
                continue
            span = (int(self.first_frame[life]), int(self.last_frame[life]))
            place = bisect.bisect(spans, span)
            is_free_before = place == 0 or spans[place - 1][1] < span[0]
            is_free_after = place == len(spans) or span[1] < spans[place][0]
            if is_free_before and is_free_after:
                spans.insert(place, span)
                taken.append(life)
        return taken


def _durations(frame_index: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Seconds for which each row's frame stands, (N,); what follows may be a long time without any face."""
    _, row, place = np.unique(frame_index, return_index=True, return_inverse=True)
    steps = np.diff(times[row])
    usual = float(np.median(steps)) if len(steps) else 1.0
    return np.append(np.clip(steps, 0, max(2 * usual, BRIDGE_SECONDS)), usual)[place]


def steady_face(
    pts_seconds: np.ndarray,
    face_frame: np.ndarray,
    boxes: np.ndarray,
    track_ids: np.ndarray,
    smooth_seconds: float = SMOOTH_SECONDS,
) -> SteadyFace:
    """The face of M chosen rows (see `choose_face`) for all F frames of `pts_seconds`.

    `face_frame` (M,) is the position in the frames, ascending, `boxes` (M, 4) x y w h, `track_ids` (M,). Boxes are
    smoothed (`smooth_boxes`), but nothing crosses a change of track, a jump or a long gap.
    """
    times, rows = np.asarray(pts_seconds, np.float64), np.asarray(face_frame, np.int64)
    num_frames = len(times)
    if not len(rows):
        nowhere = np.full(num_frames, -1, np.int64)
        no = np.zeros(num_frames, bool)
        return SteadyFace(np.full((num_frames, 4), np.nan), no.astype(np.float32), nowhere, no, nowhere)
    assert (np.diff(rows) > 0).all()
    steps = np.diff(times[rows])
    is_break = (np.diff(track_ids) != 0) | ((steps > BRIDGE_SECONDS) & (np.diff(rows) > 1))
    boxes = np.asarray(boxes, np.float64)
    is_break |= box_moves(boxes[:-1], boxes[1:]) > LOOSE_MOVE + LOOSE_MOVE_PER_SECOND * steps  # a track goes over cuts
    stretch_of_row = np.cumsum(np.append(False, is_break))
    boxes = smooth_boxes(times[rows], boxes, stretch_of_row, smooth_seconds)

    frames = np.arange(num_frames)
    before = np.searchsorted(rows, frames, "right") - 1  # the row seen last, -1 for none; a seen frame's own
    after = np.searchsorted(rows, frames, "left")
    has_before, has_after = before >= 0, after < len(rows)
    before, after = np.maximum(before, 0), np.minimum(after, len(rows) - 1)
    since = np.where(has_before, times - times[rows[before]], np.inf)
    until = np.where(has_after, times[rows[after]] - times, np.inf)
    is_whole = has_before & has_after & (stretch_of_row[before] == stretch_of_row[after])
    returns = ~has_before | ((until < since) & (until < FADE_SECONDS))
    stands_in = np.where(returns, rows[after], rows[before])
    shown = np.where(is_whole, frames, stands_in)
    way = np.stack([np.interp(times, times[rows], side) for side in boxes.T], axis=1)
    near = np.clip(1 - np.minimum(since, until) / FADE_SECONDS, 0, 1)
    return SteadyFace(
        boxes=way[shown],
        presence=np.where(is_whole, 1, near * near * (3 - 2 * near)).astype(np.float32),
        shown=shown,
        is_seen=np.isin(frames, rows),
        stretch=np.where(is_whole, stretch_of_row[before], -1),
    )


def smooth_codes(
    codes: np.ndarray, pts_seconds: np.ndarray, valid: np.ndarray, seconds: float, stretch: np.ndarray | None = None
) -> np.ndarray:
    """Codes (F, D) over time as `steady_face` smooths boxes, float32.

    `stretch` (F,) is SteadyFace's: nothing crosses its borders, and frames at -1 stay as they are; None for a video
    without borders. Frames of a stretch that are not `valid` (F,) bool get what their neighbours say.
    """
    stretch = np.zeros(len(codes), np.int64) if stretch is None else stretch
    result = np.array(codes, np.float32)
    is_known = np.asarray(valid, bool) & (stretch >= 0)
    is_reachable = np.isin(stretch, stretch[is_known])
    frames = np.flatnonzero(is_reachable)
    if not len(frames):
        return result
    times, stretches, known = np.asarray(pts_seconds, np.float64)[frames], stretch[frames], is_known[frames]
    for first in range(0, codes.shape[1], CODE_COLUMNS):
        columns = slice(first, first + CODE_COLUMNS)
        values = _filled(times, result[frames, columns].astype(np.float64), known, stretches)
        if seconds > 0:
            values = local_parabolas(times, values, known.astype(np.float64), stretches, seconds)
        result[frames, columns] = values
    return result


def _filled(times: np.ndarray, values: np.ndarray, known: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    """What is not known lies between its known neighbours of the same stretch; beyond the last one it equals it."""
    there, missing = np.flatnonzero(known), np.flatnonzero(~known)
    after = np.searchsorted(there, missing)
    before, after = there[np.maximum(after - 1, 0)], there[np.minimum(after, len(there) - 1)]
    before = np.where(stretch[before] == stretch[missing], before, after)
    after = np.where(stretch[after] == stretch[missing], after, before)
    span = times[after] - times[before]
    share = np.divide(times[missing] - times[before], span, out=np.zeros(len(missing)), where=span > 0)
    values[missing] = values[before] + share[:, None] * (values[after] - values[before])
    return values
