"""Where faces must be covered in every frame of a video, and how sure that is: what de-identifying asks of detections.

Prefers one box too many to a face that is shown. A pass over finished rows, like `track` and `steady`: the result knows
nothing of segments or workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fcvideo.faces.smoothing import SMOOTH_SECONDS, smooth_boxes

# Detections from WEAK_SCORE on are looked at. One of them counts where its track, within its shot, once comes to the
# score that is asked for, or to BORDER_SCORE where the picture's border cuts it: of 81 faces that it leaves 40 % of, 22
# to 58 % are found with 0.7, 49 to 83 % with 0.5 and 72 to 91 % with 0.4, by side.
WEAK_SCORE, BORDER_SCORE = 0.3, 0.4
FLASH_SCORE = 0.7  # what is seen once, and not even weakly just before or after, needs this
BORDER = 0.05  # of the box's height: as near to the picture's border as this, a face is cut by it
# A box of which a better one of its frame holds this much is a part of the same face; of a weak box less is enough.
HIDDEN, HIDDEN_IF_WEAK = 0.6, 0.25
# A track that is weak for good may be a face if it has so many sightings and comes to this: it is told, not covered.
LIKELY_SCORE, LIKELY_SIGHTINGS = 0.4, 3
SURE_SECONDS = 0.25  # a face that is away for no longer is where the boxes before and after say
LINK_SECONDS, LINK_MOVE, LINK_MOVE_PER_SECOND = 2.0, 0.6, 1.0  # tracks that one face may have left: gap, and way
SHORTEST_HOLD_SECONDS, HOLD_SECONDS = 0.1, 1.0  # a face is held for as long as it was seen, within these
MOTION_SECONDS = 0.3  # of a track's end, from which the motion goes on, and the time in which it comes to rest
GROWTH_PER_SECOND, LARGEST_GROWTH = 0.5, 1.5  # of a box, in the time to the next sighting
SLACK = 0.04  # of a box's height, that a smoothed box may leave out of it
VISIBLE = 0.2  # of a held box: with less of it in the picture the face has left


@dataclass(frozen=True)
class Sightings:
    """N detections of a video, in order of frame."""

    frame: np.ndarray  # (N,) int64, position in the frames
    boxes: np.ndarray  # (N, 4) float64, x y w h
    scores: np.ndarray  # (N,)
    track_ids: np.ndarray  # (N,)

    def __getitem__(self, rows: np.ndarray) -> Sightings:
        return Sightings(*(values[rows] for values in vars(self).values()))


@dataclass(frozen=True)
class CoveredFace:
    """One face within one shot: K frames on end, from before it was seen first to after it was seen last."""

    rows: np.ndarray  # (M,) int64, of the detections that are it, in order of time
    first: int  # position in the frames
    boxes: np.ndarray  # (K, 4) float64
    is_seen: np.ndarray  # (K,) bool
    is_guess: np.ndarray  # (K,) bool: away for longer than SURE_SECONDS

    @property
    def end(self) -> int:
        return self.first + len(self.boxes)


@dataclass(frozen=True)
class Cover:
    """All faces of a video, and the frames in which one is likely that is not covered for sure."""

    faces: Sequence[CoveredFace]
    num_seen: np.ndarray  # (F,) int64: faces covered where they were found
    is_held: np.ndarray  # (F,) bool: a face is covered where it must be, but was not found
    is_at_risk: np.ndarray  # (F,) bool: held on a guess, or seen only weakly and not covered

    def groups(self) -> list[list[CoveredFace]]:
        """In as few groups as there are faces at once, each of faces one after the other; the group that fills most
        of the video is the first.
        """
        groups: list[list[CoveredFace]] = []
        for face in sorted(self.faces, key=lambda face: face.first):
            group = next((group for group in groups if group[-1].end <= face.first), None)
            if group is None:
                groups.append(group := [])
            group.append(face)
        return sorted(
            groups, key=lambda group: -sum(float(face.boxes[face.is_seen, 2:].prod(axis=1).sum()) for face in group)
        )


def cover_faces(times: np.ndarray, shots: np.ndarray, seen: Sightings, size: tuple[int, int], score: float) -> Cover:
    """`times` (F,) ascending seconds, `shots` (F,) ascending numbers, `size` width and height of the picture.

    `score`: what a track must once come to; at 0 every one counts. Nothing is held across a change of shot.
    """
    known = np.flatnonzero(_not_hidden(seen, score))
    seen = seen[known]
    tracks = _tracks(seen, shots, times)
    is_firm = [score <= 0 or _is_firm(seen[rows], size, score, is_flash=len(rows) == 1 < len(times)) for rows in tracks]
    chains = _link([rows for rows, firm in zip(tracks, is_firm, strict=True) if firm], times, shots, seen)
    faces = [_covered(times, shots, known[rows], seen[rows], size) for rows in chains]
    num_seen, is_held, is_at_risk = np.zeros(len(times), np.int64), *np.zeros((2, len(times)), bool)
    for face in faces:
        frames = slice(face.first, face.end)
        num_seen[frames] += face.is_seen
        is_held[frames] |= ~face.is_seen
        is_at_risk[frames] |= face.is_guess
    least = min(LIKELY_SIGHTINGS, len(times))
    weak = [rows for rows, firm in zip(tracks, is_firm, strict=True) if not firm and len(rows) >= least]
    weak = [rows for rows in weak if seen.scores[rows].max() >= LIKELY_SCORE]
    if weak:
        rows = np.sort(np.concatenate(weak))
        is_at_risk[seen.frame[rows[~_is_within(seen[rows], faces)]]] = True
    return Cover(faces, num_seen, is_held, is_at_risk)


def _tracks(seen: Sightings, shots: np.ndarray, times: np.ndarray) -> list[np.ndarray]:
    """Rows of each track within each shot, in order of time, the earliest first; in pieces where it was long away."""
    if not len(seen.frame):
        return []
    shot = shots[seen.frame]
    rows = np.lexsort((seen.frame, seen.track_ids, shot))
    borders = (np.diff(seen.track_ids[rows]) != 0) | (np.diff(shot[rows]) != 0)
    borders |= np.diff(times[seen.frame[rows]]) > HOLD_SECONDS
    tracks = np.split(rows, np.flatnonzero(borders) + 1)
    return sorted(tracks, key=lambda rows: (int(seen.frame[rows[0]]), int(rows[0])))


def _not_hidden(seen: Sightings, score: float) -> np.ndarray:
    """bool (N,): all but the boxes that show a part of a face that another box of their frame shows whole."""
    limit = np.where(seen.scores < score, HIDDEN_IF_WEAK, HIDDEN)
    kept = np.ones(len(seen.frame), bool)
    starts = np.flatnonzero(np.diff(seen.frame, prepend=-1))
    for start, stop in zip(starts, np.append(starts, len(seen.frame))[1:], strict=True):
        boxes, scores = seen.boxes[start:stop], seen.scores[start:stop]
        near, far = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        sides = np.minimum(far[:, None], far) - np.maximum(near[:, None], near)
        held = np.maximum(sides, 0).prod(axis=2) / boxes[:, 2:].prod(axis=1)[:, None]
        held[scores[:, None] >= scores] = 0.0  # by a worse one, or itself
        kept[start:stop] = held.max(axis=1) <= limit[start:stop]
    return kept


def _is_firm(track: Sightings, size: tuple[int, int], score: float, *, is_flash: bool) -> bool:
    score = max(score, FLASH_SCORE) if is_flash else score
    at_border = _over_border(track.boxes, size, BORDER).any(axis=1)
    return bool((track.scores >= np.where(at_border & (not is_flash), min(score, BORDER_SCORE), score)).any())


def _over_border(boxes: np.ndarray, size: tuple[int, int], margin: float) -> np.ndarray:
    """bool (N, 4): reach to within `margin` heights of the left, upper, right, lower border."""
    near, far = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    margin_px = margin * boxes[:, 3:]
    return np.concatenate([near <= margin_px, far >= np.asarray(size) - margin_px], axis=1)


def _link(tracks: list[np.ndarray], times: np.ndarray, shots: np.ndarray, seen: Sightings) -> list[np.ndarray]:
    """Rows of faces: tracks of one shot that one face may have left one after the other, the shortest gaps first; no
    gap that is longer than what is seen of the face around it, for flashes are all over the picture.
    """
    last, first = (np.array([rows[at] for rows in tracks], np.int64) for at in (-1, 0))
    begins, ends = seen.frame[first], seen.frame[last]  # the first ascending, as the tracks are
    pairs = []
    for number, row in enumerate(last.tolist()):
        frame = int(seen.frame[row])
        near = np.searchsorted(begins, frame, "right"), np.searchsorted(times[begins], times[frame] + LINK_SECONDS)
        for other in range(*map(int, near)):
            gap = float(times[begins[other]] - times[frame])
            life = times[ends[number]] - times[begins[number]] + times[ends[other]] - times[begins[other]]
            is_possible = (
                gap <= life
                and _move(seen.boxes[row], seen.boxes[first[other]]) <= LINK_MOVE + LINK_MOVE_PER_SECOND * gap
            )
            if is_possible and shots[begins[other]] == shots[frame]:
                pairs.append((gap, number, other))
    follower: dict[int, int] = {}
    followed: set[int] = set()
    for _, number, other in sorted(pairs):
        if number not in follower and other not in followed:
            follower[number] = other
            followed.add(other)
    chains = []
    for number in range(len(tracks)):
        if number not in followed:
            chain = [number]
            while chain[-1] in follower:
                chain.append(follower[chain[-1]])
            chains.append(np.concatenate([tracks[part] for part in chain]))
    return chains


def _move(before: np.ndarray, after: np.ndarray) -> float:
    """The centre's way in box heights, and the log ratio of the heights."""
    way = np.linalg.norm(before[:2] + before[2:] / 2 - after[:2] - after[2:] / 2)
    return float(way / np.sqrt(before[3] * after[3]) + abs(np.log(after[3] / before[3])))


def _covered(
    times: np.ndarray, shots: np.ndarray, rows_of_face: np.ndarray, face: Sightings, size: tuple[int, int]
) -> CoveredFace:
    rows = face.frame
    seen_times = times[rows]
    stretch = np.cumsum(np.append(False, np.diff(seen_times) > 2 * SURE_SECONDS))
    boxes = _holding(smooth_boxes(seen_times, face.boxes, stretch, SMOOTH_SECONDS), face.boxes)
    hold = float(np.clip(seen_times[-1] - seen_times[0], SHORTEST_HOLD_SECONDS, HOLD_SECONDS))
    same_shot = np.searchsorted(shots, shots[rows[0]], "left"), np.searchsorted(shots, shots[rows[0]], "right")
    first = max(int(np.searchsorted(times, seen_times[0] - hold)), int(same_shot[0]))
    end = min(int(np.searchsorted(times, seen_times[-1] + hold, "right")), int(same_shot[1]))
    frames = np.arange(first, end)
    now = times[frames]
    away, gap = _away(now, seen_times)
    way = np.stack([np.interp(now, seen_times, side) for side in boxes.T], axis=1)
    is_inside = np.ones(len(frames), bool)
    for is_out, at in ((frames < rows[0], 0), (frames > rows[-1], -1)):
        way[is_out, :2] += _drift(seen_times, boxes, now[is_out], size, at)
        is_inside[is_out] = _visible(way[is_out], size) > VISIBLE
    middle = way[:, :2] + way[:, 2:] / 2
    way[:, 2:] *= np.minimum(1 + GROWTH_PER_SECOND * away, LARGEST_GROWTH)[:, None]
    way[:, :2] = middle - way[:, 2:] / 2
    # What left and would come back is gone: only the frames next to those seen count.
    gone = frames[~is_inside]
    first = int(gone[gone < rows[0]].max(initial=first - 1)) + 1
    end = int(gone[gone > rows[-1]].min(initial=end))
    kept = slice(first - frames[0], end - frames[0])
    return CoveredFace(rows_of_face, first, way[kept], np.isin(frames, rows)[kept], (gap > SURE_SECONDS)[kept])


def _holding(boxes: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Boxes (M, 4) moved and grown, as wide to high as they were, to hold all but SLACK of each one found (M, 4): what
    moves by jerks, smoothing leaves behind.
    """
    slack = SLACK * found[:, 3:]
    near = np.minimum(boxes[:, :2], found[:, :2] + slack)
    far = np.maximum(boxes[:, :2] + boxes[:, 2:], found[:, :2] + found[:, 2:] - slack)
    sides = boxes[:, 2:] * ((far - near) / boxes[:, 2:]).max(axis=1, keepdims=True)
    return np.concatenate([(near + far - sides) / 2, sides], axis=1)


def _away(now: np.ndarray, seen_times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each time the seconds to the nearest sighting, and the length of the gap it lies in: 0 where seen, infinite
    before the first and after the last.
    """
    after = np.searchsorted(seen_times, now, "left")
    before = np.searchsorted(seen_times, now, "right") - 1
    since = np.where(before >= 0, now - seen_times[np.maximum(before, 0)], np.inf)
    until = np.where(after < len(seen_times), seen_times[np.minimum(after, len(seen_times) - 1)] - now, np.inf)
    return np.minimum(since, until), since + until


def _drift(seen_times: np.ndarray, boxes: np.ndarray, now: np.ndarray, size: tuple[int, int], at: int) -> np.ndarray:
    """(K, 2) the way of a face beyond its first (`at` 0) or last (-1) sighting: its motion there goes on and comes to
    rest, but for a face that the border cuts and that moves across it.
    """
    near = np.abs(seen_times - seen_times[at]) <= MOTION_SECONDS
    moments, middles = seen_times[near] - seen_times[at], boxes[near, :2] + boxes[near, 2:] / 2
    if len(moments) < 3 or not np.ptp(moments):
        return np.zeros((len(now), 2))
    moments = moments - moments.mean()
    speed = moments @ (middles - middles.mean(axis=0)) / (moments @ moments)
    away = now - seen_times[at]
    onward = np.sign(away[:1].sum())
    cut = _over_border(boxes[[at]], size, BORDER)[0]
    leaves = bool((cut[:2] & (onward * speed < 0)).any() or (cut[2:] & (onward * speed > 0)).any())
    length = away if leaves else np.sign(away) * MOTION_SECONDS * (1 - np.exp(-np.abs(away) / MOTION_SECONDS))
    return length[:, None] * speed


def _visible(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N,) the part of each box that lies in the picture."""
    sides = np.minimum(boxes[:, :2] + boxes[:, 2:], size) - np.maximum(boxes[:, :2], 0)
    return np.maximum(sides, 0).prod(axis=1) / boxes[:, 2:].prod(axis=1)


def _is_within(seen: Sightings, faces: Sequence[CoveredFace]) -> np.ndarray:
    """bool (N,): whose centre lies in a covered box of its frame; `seen` in order of frame."""
    middles, result = seen.boxes[:, :2] + seen.boxes[:, 2:] / 2, np.zeros(len(seen.frame), bool)
    for face in faces:
        rows = slice(*np.searchsorted(seen.frame, [face.first, face.end]).tolist())
        boxes = face.boxes[seen.frame[rows] - face.first]
        result[rows] |= (np.abs(middles[rows] - boxes[:, :2] - boxes[:, 2:] / 2) <= boxes[:, 2:] / 2).all(axis=1)
    return result


def spans(is_so: np.ndarray, times: np.ndarray) -> list[tuple[float, float]]:
    """The stretches (begin, end) in seconds of the frames (F,) that are so; a frame lasts until the next."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_so, [False]]).astype(np.int8)))
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    ends = np.append(times[1:], times[-1:] + usual)
    return [(round(float(times[a]), 3), round(float(ends[b - 1]), 3)) for a, b in edges.reshape(-1, 2)]
