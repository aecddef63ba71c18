"""Which face of a source is shown in each of its frames, and in which motion: rows in, arrays on the disk out.

A function of the rows alone, so that segments, workers and restarts leave no trace. Workers map the arrays and read
what their segment needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from fcvideo.atomic import remove_folder
from fcvideo.errors import VideoError
from fcvideo.faces.cover import CoveredFace, Sightings, cover_faces, spans
from fcvideo.faces.steady import CODE_COLUMNS, SteadyFace, choose_face, smooth_codes, steady_face
from fcvideo.rendering.portrait import PortraitPainter, motion_size
from fcvideo.tables.seen_faces import Rows, SeenFaces, read_expressions, read_seen_faces

NUM_NEUTRAL_CANDIDATES = 2048  # faces of a source among which its most neutral one is looked for, spread evenly
_OTHER = "other-"
_ARRAYS = ("frame_index", "pts_seconds", "is_decoded", "boxes", "presence", "shown")


@dataclass(frozen=True)
class Wish:
    """Whose motion, and what is done to it: the settings that a plan depends on."""

    face: int | None
    at: tuple[float, float] | None
    smooth_seconds: float
    has_codes: bool  # the rows' own codes are shown, not those of the steady crops
    is_relative: bool
    cover_score: float | None = None  # the face that is named, or every face, is covered: one that once comes to this

    @property
    def is_everyone(self) -> bool:
        return self.cover_score is not None and self.face is None and self.at is None


@dataclass(frozen=True)
class Scene:
    """What a source's rows do not say of its pictures."""

    width: int
    height: int
    cuts: np.ndarray  # (C,) int64, frame_index of the first frames of its shots but the first


@dataclass(frozen=True)
class Coverage:
    """How well faces are covered, counted over a source's frames."""

    faces_replaced: int  # found, and covered there; a frame may have several
    frames_held: int  # in which a face is covered that was not found in them
    frames_at_risk: int  # in which a face is likely, and nothing covers it or only a guess
    at_risk: list[tuple[float, float]]  # these, as stretches of presentation time in seconds


@dataclass(frozen=True)
class MotionPlan:
    """The face that is shown in each of F frames, in order."""

    frame_index: np.ndarray  # (F,) int64
    pts_seconds: np.ndarray  # (F,) float64
    is_decoded: np.ndarray  # (F,) bool
    boxes: np.ndarray  # (F, 4) float64, as SteadyFace has them
    presence: np.ndarray  # (F,) float32
    shown: np.ndarray  # (F,) int64, positions in the frames
    codes: np.ndarray | None  # (F, D) float32, of the face seen in each; None: they are read off the crops

    @classmethod
    def load(cls, folder: Path) -> MotionPlan:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        codes = folder / "codes.npy"
        return cls(**arrays, codes=np.load(codes, mmap_mode="r") if codes.exists() else None)

    @classmethod
    def load_others(cls, folder: Path) -> list[MotionPlan]:
        """The plans of other people's faces that lie within a plan's folder."""
        return [cls.load(other) for other in sorted(folder.glob(f"{_OTHER}*"))]

    def within(self, start_pts: int | None, end_pts: int | None, time_base: Fraction) -> slice:
        """Positions of the frames with start_pts <= pts < end_pts, of a source whose times ascend."""
        half = float(time_base) / 2
        first = 0 if start_pts is None else np.searchsorted(self.pts_seconds, float(start_pts * time_base) - half)
        last = None if end_pts is None else np.searchsorted(self.pts_seconds, float(end_pts * time_base) - half)
        return slice(int(first), len(self.pts_seconds) if last is None else int(last))


@dataclass(frozen=True, eq=False)
class Found:
    """What is told of a planned source, beside its plan."""

    reference: np.ndarray | None  # (D,) code of its most neutral frame, if that was wanted
    num_others: int  # faces that no plan shows
    coverage: Coverage | None = None  # where faces are covered


def plan_motion(
    rows: Rows,
    track_ids: np.ndarray | None,
    wish: Wish,
    folder: Path,
    painter: PortraitPainter | None,
    scene: Scene | None = None,
) -> Found:
    """Writes a source's MotionPlan into `folder`, and those of all other faces within it where they are wanted.

    `track_ids` as in `read_seen_faces`; `painter` is needed for a relative motion, `scene` to cover faces. Errors:
    InputError for a face that the wish names and that is not there, VideoError `no_face` for a source without faces,
    unless all are covered.
    """
    seen = read_seen_faces(rows, track_ids)
    if folder.exists():
        remove_folder(folder)
    if wish.cover_score is not None:
        assert scene is not None
        return _plan_cover(rows, seen, wish, wish.cover_score, folder, scene)
    if not len(seen.face_frame):
        raise VideoError("no_face", f"found no face in its {len(seen.frame_index)} frames, expected one to follow")
    times = _ascending(seen.pts_seconds)
    face_times = times[seen.face_frame]
    chosen = choose_face(seen.face_frame, face_times, seen.boxes, seen.track_ids, face=wish.face, at=wish.at)
    face = steady_face(times, seen.face_frame[chosen], seen.boxes[chosen], seen.track_ids[chosen])
    _save(rows, seen, chosen, times, face, wish, folder)
    reference = None
    if wish.is_relative:
        assert painter is not None
        reference = _most_neutral(rows, chosen, painter)
    return Found(reference, len(seen.face_frame) - len(chosen))


def _plan_cover(rows: Rows, seen: SeenFaces, wish: Wish, score: float, folder: Path, scene: Scene) -> Found:
    times = _ascending(seen.pts_seconds)
    chosen = np.arange(len(seen.face_frame))
    if not wish.is_everyone:
        face_times = times[seen.face_frame]
        chosen = choose_face(seen.face_frame, face_times, seen.boxes, seen.track_ids, face=wish.face, at=wish.at)
    sightings = Sightings(seen.face_frame, seen.boxes, seen.scores, seen.track_ids)[chosen]
    shots = np.searchsorted(scene.cuts, seen.frame_index, "right")
    size = scene.width, scene.height
    cover = cover_faces(times, shots, sightings, size, score if wish.is_everyone else 0.0)
    for number, group in enumerate(cover.groups() or [[]]):
        face, found = _as_steady(group, len(times))
        _save(rows, seen, chosen[found], times, face, wish, folder / f"{_OTHER}{number:04d}" if number else folder)
    there = np.maximum.accumulate(np.where(seen.is_decoded, np.arange(len(times)), -1))  # what a lost frame repeats
    there = np.where(there < 0, int(seen.is_decoded.argmax()), there)
    is_at_risk = cover.is_at_risk[there]
    coverage = Coverage(
        faces_replaced=int(cover.num_seen[there].sum()),
        frames_held=int(cover.is_held[there].sum()),
        frames_at_risk=int(is_at_risk.sum()),
        at_risk=spans(is_at_risk, times),
    )
    others = np.delete(seen.scores, chosen)
    return Found(None, int((others >= score).sum()), coverage)


def _as_steady(group: list[CoveredFace], num_frames: int) -> tuple[SteadyFace, np.ndarray]:
    """Faces that are covered one after the other as one, and the rows that they were found in, in order of time.

    Each frame shows what it has in the box itself, for there the colors are right.
    """
    boxes = np.full((num_frames, 4), np.nan)
    shown, stretch = np.full((2, num_frames), -1, np.int64)
    for number, face in enumerate(group):
        frames = slice(face.first, face.end)
        boxes[frames], stretch[frames], shown[frames] = face.boxes, number, np.arange(face.first, face.end)
    is_there = stretch >= 0
    rows = np.concatenate([np.empty(0, np.int64), *(face.rows for face in group)])
    return SteadyFace(boxes, is_there.astype(np.float32), shown, is_there, stretch), rows


def _save(
    rows: Rows,
    seen: SeenFaces,
    chosen: np.ndarray,
    times: np.ndarray,
    face: SteadyFace,
    wish: Wish,
    folder: Path,
) -> None:
    """The plan of the face of the rows `chosen`."""
    folder.mkdir(parents=True)
    values = (seen.frame_index, seen.pts_seconds, seen.is_decoded, face.boxes, face.presence, face.shown)
    for name, array in zip(_ARRAYS, values, strict=True):
        np.save(folder / f"{name}.npy", array)
    if wish.has_codes and len(chosen):
        _save_codes(rows, seen, chosen, times, face, wish.smooth_seconds, folder)


def _save_codes(
    rows: Rows,
    seen: SeenFaces,
    chosen: np.ndarray,
    times: np.ndarray,
    face: SteadyFace,
    smooth_seconds: float,
    folder: Path,
) -> None:
    """Codes for every frame, those between two faces filled in; on the disk, for an hour's are 100 MB."""
    codes: np.memmap | None = None
    frames, is_known = seen.face_frame[chosen], np.zeros(len(times), bool)
    is_known[frames] = True
    for first, values in read_expressions(rows, chosen):
        if codes is None:
            shape = (len(times), values.shape[1])
            codes = np.lib.format.open_memmap(folder / "codes.npy", mode="w+", dtype=np.float32, shape=shape)
        codes[frames[first : first + len(values)]] = values
    assert codes is not None
    for column in range(0, codes.shape[1], CODE_COLUMNS):
        columns = slice(column, column + CODE_COLUMNS)
        codes[:, columns] = smooth_codes(codes[:, columns], times, is_known, smooth_seconds, face.stretch)
    codes.flush()


def _most_neutral(rows: Rows, chosen: np.ndarray, painter: PortraitPainter) -> np.ndarray:
    best, least = None, np.inf
    for _, codes in read_expressions(rows, chosen[:: len(chosen) // NUM_NEUTRAL_CANDIDATES + 1]):
        for part in np.array_split(codes, -(-len(codes) // 64)):
            sizes = motion_size(painter.motion(torch.from_numpy(part))).cpu().numpy()
            if sizes.min() < least:
                best, least = part[sizes.argmin()].copy(), float(sizes.min())
    assert best is not None
    return best


def _ascending(pts_seconds: np.ndarray) -> np.ndarray:
    """Times that never go back: where a recording's clock starts again, it goes on after a usual step."""
    steps = np.diff(pts_seconds)
    is_back = ~(steps > 0)
    if not is_back.any():
        return pts_seconds
    usual = float(np.median(steps[~is_back])) if (~is_back).any() else 0.04
    return np.concatenate([pts_seconds[:1], pts_seconds[0] + np.cumsum(np.where(is_back, usual, steps))])
