"""The frames of one segment with the face that each shows: what a renderer is given, and when it is shown.

A face that is held, and the picture that a lost frame repeats, may lie in another segment: they are read from there.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fcvideo.atomic import write_json
from fcvideo.errors import VideoError
from fcvideo.rendering.motion_plan import MotionPlan
from fcvideo.rendering.renderer import Moment
from fcvideo.video.read import Frame, read_frames
from fcvideo.video.segments import Segment, plan_segments

USUAL_SECONDS = Fraction(1, 25)  # of a picture whose duration nothing tells
_OF_ONE_SEGMENT = ("start_pts", "end_pts", "key_pts", "key_dts", "first_frame_index", "previous_pts")
Kind = Literal["face", "held", "missing", "lost"]


@dataclass(frozen=True, eq=False)
class TimedMoment:
    """A moment, when it is shown, and what it is: of `missing` ones the face has been away for long.

    `others` are those of other people's faces, to be pasted into the same picture.
    """

    moment: Moment
    others: tuple[Moment, ...]
    kind: Kind
    pts: int  # in the segment's time base, as is the duration; 0 where it is not known
    duration: int


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A picture on the canvas of its video: scaled, then moved."""

    image: np.ndarray
    scale: float = 1.0
    left: int = 0
    top: int = 0

    def box(self, box: np.ndarray) -> np.ndarray:
        return box * self.scale + np.array([self.left, self.top, 0, 0])


class Moments:
    """Iterates over a segment's frames. `frames` are their positions in the plans; the first plan's face is the one
    that counts. `size` is width and height of the pictures, None for a table, which has none. `is_exact`: as exact in
    color as pictures must be that are written again; it takes ten times as long. `keys_path` as in `PictureFinder`.
    Errors: VideoError.
    """

    def __init__(
        self,
        segment: Segment,
        frames: slice,
        plans: Sequence[MotionPlan],
        size: tuple[int, int] | None,
        *,
        is_exact: bool,
        keys_path: Path,
    ) -> None:
        self._segment, self._frames, self._plan, self._size = segment, frames, plans[0], size
        self._is_exact = is_exact
        self._finder = PictureFinder(segment, keys_path, is_exact=is_exact)
        self._faces = [_FaceMoments(plan, self._find) for plan in plans]
        self._last: tuple[Moment, ...] = ()

    def __iter__(self) -> Iterator[TimedMoment]:
        if self._size is None:
            for position in range(self._frames.start, self._frames.stop):
                yield self._timed(position, self._moments(position, None), self._pts(position), 0)
            return
        for frame in read_frames(self._segment, is_exact=self._is_exact):
            position = self._position(frame)
            if frame.image is None:
                moments = self._last or self._stand_in(position)
                yield self._timed(position, moments, frame.pts, frame.duration, is_lost=True)
            else:
                self._last = self._moments(position, self._fit(frame.image))
                yield self._timed(position, self._last, frame.pts, frame.duration)

    def _position(self, frame: Frame) -> int:
        position = int(np.searchsorted(self._plan.frame_index, frame.frame_index))
        if position >= self._frames.stop or self._plan.frame_index[position] != frame.frame_index:
            raise VideoError("error", f"{self._segment.source.path}: found a frame that was not there before; changed?")
        return position

    def _timed(
        self, position: int, moments: tuple[Moment, ...], pts: int, duration: int, *, is_lost: bool = False
    ) -> TimedMoment:
        if position + 1 < len(self._plan.frame_index):
            duration = max(self._pts(position + 1) - pts, 0)
        kind: Kind = "lost" if is_lost else self._kind(position)
        return TimedMoment(moments[0], moments[1:], kind, pts, duration or self._usual_duration)

    def _kind(self, position: int) -> Kind:
        if self._plan.shown[position] == position:
            return "face"
        return "held" if self._plan.presence[position] > 0 else "missing"

    def _pts(self, position: int) -> int:
        return round(Fraction(float(self._plan.pts_seconds[position])) / self._segment.time_base)

    @cached_property
    def _usual_duration(self) -> int:
        steps = np.diff(self._plan.pts_seconds)
        steps = steps[steps > 0]
        usual = Fraction(float(np.median(steps))) if len(steps) else USUAL_SECONDS
        return max(round(usual / self._segment.time_base), 1)

    def _moments(self, position: int, own: _Fitted | None) -> tuple[Moment, ...]:
        """That of the first face, and those of others that are there."""
        first, *others = self._faces
        there = [face.moment(position, own) for face in others if face.plan.presence[position] > 0]
        return first.moment(position, own), *there

    def _stand_in(self, position: int) -> tuple[Moment, ...]:
        """Those of the last frame before which has a picture, or else of the first one after."""
        there = np.flatnonzero(self._plan.is_decoded)
        place = max(int(np.searchsorted(there, position)) - 1, 0)
        return self._moments(int(there[place]), self._find(int(there[place])))

    def _find(self, position: int) -> _Fitted:
        return self._fit(self._finder.find(int(self._plan.frame_index[position]), self._pts(position)))

    def _fit(self, image: np.ndarray) -> _Fitted:
        """A picture of another size than the first is scaled to fit, with black bars."""
        assert self._size is not None
        (width, height), (own_height, own_width, _) = self._size, image.shape
        if (width, height) == (own_width, own_height):
            return _Fitted(image)
        scale = min(width / own_width, height / own_height)
        size = min(max(round(own_width * scale), 1), width), min(max(round(own_height * scale), 1), height)
        left, top = (width - size[0]) // 2, (height - size[1]) // 2
        canvas = np.zeros((height, width, 3), np.uint8)
        scaled = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
        canvas[top : top + size[1], left : left + size[0]] = np.asarray(scaled)
        return _Fitted(canvas, scale, left, top)


class _FaceMoments:
    """Moments of one face; `find` gives the picture of any position."""

    def __init__(self, plan: MotionPlan, find: Callable[[int], _Fitted]) -> None:
        self.plan, self._find = plan, find
        self._own: tuple[int, _Fitted] | None = None  # the last frame that shows its own face
        self._found: tuple[int, _Fitted] | None = None  # the last one that was looked for elsewhere

    def moment(self, position: int, own: _Fitted | None) -> Moment:
        plan = self.plan
        shown = int(plan.shown[position])
        if shown < 0:  # nobody
            return Moment(None if own is None else own.image, None, None, 0.0, None, shown)
        box, face = np.array(plan.boxes[position], np.float64), own
        if own is not None:
            face = self._face(position, shown, own)
            box = face.box(box)
        code = None if plan.codes is None else np.array(plan.codes[shown])
        image, face_image = (None if picture is None else picture.image for picture in (own, face))
        return Moment(image, face_image, box, float(plan.presence[position]), code, shown)

    def _face(self, position: int, shown: int, own: _Fitted) -> _Fitted:
        if shown == position:
            self._own = position, own
            return own
        for known in (self._own, self._found):
            if known is not None and known[0] == shown:
                return known[1]
        self._found = shown, self._find(shown)
        return self._found[1]


class PictureFinder:
    """Single frames of a segment's source, exactly as `read_frames` gives them. Errors: VideoError.

    The file `keys_path` keeps where the source's key frames are: to find them takes a pass over all packets, once for
    all who render the source.
    """

    def __init__(self, segment: Segment, keys_path: Path, *, is_exact: bool) -> None:
        self._segment, self._source, self._keys_path, self._is_exact = segment, segment.source, keys_path, is_exact

    @cached_property
    def _segments(self) -> list[Segment]:
        """One to a key frame."""
        try:
            known = json.loads(self._keys_path.read_text())["segments"]
        except FileNotFoundError:
            segments = plan_segments(self._source, segment_seconds=0.0)
            known = [{name: getattr(segment, name) for name in _OF_ONE_SEGMENT} for segment in segments]
            write_json(self._keys_path, {"segments": known})
        return [replace(self._segment, **values) for values in known]

    def find(self, frame_index: int, pts: int) -> np.ndarray:
        """(height, width, 3) uint8 RGB of a frame that can be decoded."""
        segment = self._segments[0]
        if segment.is_indexed:
            starts = [s.start_pts for s in self._segments if s.start_pts is not None]
            segment = self._segments[max(bisect_right(starts, pts) - 1, 0)]
            segment = replace(segment, start_pts=pts, end_pts=pts + 1)
        for frame in read_frames(segment, is_exact=self._is_exact):
            if frame.frame_index == frame_index and frame.image is not None:
                return frame.image
        raise VideoError("error", f"{self._source.path}: frame {frame_index} was not found again; changed?")
