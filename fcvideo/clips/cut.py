"""Faces of one video become clips. Crops wait on the disk until it is known which of them are one face over time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image

from fcvideo.clips.shards import Clip
from fcvideo.faces.track import assign_tracks

JPEG_QUALITY = 92
# Of neighbouring faces of a track, seen 1/6 s apart: one person 0.55 to 1, another after a cut 0.03 to 0.44.
LEAST_LIKENESS, LOOK_SIDE = 0.5, 8
LONGEST_CLIP = 600  # frames; longer tracks become several clips of one person, so that a row stays a few MB


@dataclass
class CutCounts:
    """What became of a video's faces. A long track gives several clips."""

    num_faces: int = 0
    num_tracks: int = 0
    num_tracks_too_small: int = 0
    num_tracks_too_short: int = 0
    num_clips: int = 0
    num_clip_frames: int = 0


@dataclass(frozen=True)
class _Piece:
    """Up to LONGEST_CLIP faces of one track, as positions in the order of time."""

    track: int
    number: int
    num_pieces: int
    members: np.ndarray


class ClipCutter:
    """Takes the faces of one video in any order of frames, then gives its clips.

    A clip needs `min_frames` faces, and boxes of median height `min_face_px` or more. `spool` is a temporary file.
    """

    def __init__(self, video: str, min_frames: int, min_face_px: int, spool: IO[bytes]) -> None:
        self.video = video
        self.counts = CutCounts()
        self._min_frames = min_frames
        self._min_face_px = min_face_px
        self._spool = spool
        self._frame_index: list[int] = []
        self._pts_seconds: list[float] = []
        self._boxes: list[np.ndarray] = []
        self._looks: list[np.ndarray] = []
        self._places: list[tuple[int, int]] = []  # start and length in the spool

    def add(self, frame_index: int, pts_seconds: float, box: np.ndarray, crop: np.ndarray) -> None:
        """One face: `box` (4,), `crop` uint8 (side, side, 3). Faces of one frame come in their own order."""
        buffer = io.BytesIO()
        picture = Image.fromarray(crop)
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
        self._frame_index.append(frame_index)
        self._pts_seconds.append(pts_seconds)
        self._boxes.append(box)
        self._looks.append(_look(picture))
        self._places.append((self._spool.tell(), self._spool.write(buffer.getbuffer())))

    def cut(self) -> Iterator[Clip]:
        """Clips in order of first appearance. `counts` is right at once, before the first is taken."""
        self.counts.num_faces = len(self._boxes)
        order = np.argsort(np.array(self._frame_index, dtype=np.int64), kind="stable")
        pieces = self._choose(order) if len(order) else []
        self.counts.num_clips = len(pieces)
        self.counts.num_clip_frames = sum(len(piece.members) for piece in pieces)
        return (self._load(piece, order[piece.members]) for piece in pieces)

    def _choose(self, order: np.ndarray) -> list[_Piece]:
        boxes = np.stack(self._boxes)[order]
        tracks = self._follow(order, boxes)
        pieces: list[_Piece] = []
        for track, members in enumerate(tracks):
            if len(members) < self._min_frames:
                self.counts.num_tracks_too_short += 1
            elif np.median(boxes[members, 3]) < self._min_face_px:
                self.counts.num_tracks_too_small += 1
            else:
                parts = np.array_split(members, -(-len(members) // LONGEST_CLIP))
                pieces += [_Piece(track, number, len(parts), part) for number, part in enumerate(parts)]
        self.counts.num_tracks = len(tracks)
        return pieces

    def _follow(self, order: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
        """Tracks as positions in `order`; boxes alone would go on over a cut to another face in the same place."""
        frame_index, pts_seconds = np.array(self._frame_index)[order], np.array(self._pts_seconds)[order]
        ids = assign_tracks(frame_index, pts_seconds, boxes)
        looks = np.stack(self._looks)[order].astype(np.float32)
        tracks: list[np.ndarray] = []
        for members in np.split(np.argsort(ids, kind="stable"), np.cumsum(np.bincount(ids))[:-1]):
            seen = looks[members]
            seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-6)
            likeness = (seen[1:] * seen[:-1]).sum(axis=1)
            tracks += np.split(members, np.flatnonzero(likeness < LEAST_LIKENESS) + 1)
        return sorted(tracks, key=lambda members: int(members[0]))

    def _load(self, piece: _Piece, faces: np.ndarray) -> Clip:
        track = f"{self.video}#{piece.track}"
        return Clip(
            clip_id=track if piece.num_pieces == 1 else f"{track}.{piece.number}",
            video=self.video,
            # Who it is stays unknown, but the pieces of one track are one person.
            person=None if piece.num_pieces == 1 else track,
            frames=[self._read(*self._places[face]) for face in faces],
            pts_seconds=[self._pts_seconds[face] for face in faces],
            frame_index=[self._frame_index[face] for face in faces],
            boxes=np.stack([self._boxes[face] for face in faces]),
        )

    def _read(self, start: int, length: int) -> bytes:
        self._spool.seek(start)
        return self._spool.read(length)


def _look(crop: Image.Image) -> np.ndarray:
    """(3 * LOOK_SIDE^2,) int8: a thumbnail without its mean color."""
    small = np.asarray(crop.resize((LOOK_SIDE, LOOK_SIDE), Image.Resampling.BOX), dtype=np.float32)
    return np.clip(np.rint(small - small.mean(axis=(0, 1))), -127, 127).astype(np.int8).ravel()
