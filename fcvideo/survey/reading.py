"""The first stage of `embed`, on a CPU core: plans a video, reads a segment, finds its faces and cuts them out.

What it hands on is a chunk: consecutive frames of one segment, without their pictures, and the crops of their faces.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fcvideo.errors import VideoError, describe_error
from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.video.container import on_packet, with_kind
from fcvideo.video.inputs import Source
from fcvideo.video.probe import Edition, VideoInfo, edition, is_unchanged, probe
from fcvideo.video.segments import Segment, plan_segments
from fcvideo.video.shots import SIGNATURE_BYTES, signature

if TYPE_CHECKING:
    from fcvideo.faces.detect import Scales
    from fcvideo.video.read import Frame

SEGMENT_SECONDS = 30.0
LATE_STREAM_SHARE = 0.9  # of a transport stream before which its video may not end where there are others
# Some ten seconds of one face: memory stays bounded where a file cannot be cut, and encoding begins early.
CHUNK_FRAMES, CHUNK_FACES = 256, 256


@dataclass(frozen=True)
class Looking:
    """Which frames are looked at, and what counts as a face and its crop: all that a reader must know."""

    fps: float | None
    start_seconds: float | None
    duration_seconds: float | None
    min_face_px: int
    score_threshold: float
    side_px: int
    framing: Framing
    scales: Scales = "one"  # at which a picture is searched


@dataclass(frozen=True)
class VideoPlan:
    """What is known of a video before its frames are read; a video that cannot be read has no segments."""

    source: Source
    video_id: str | None
    info: VideoInfo | None
    segments: tuple[Segment, ...]
    status: str = "ok"
    error: str | None = None


@dataclass(frozen=True)
class Chunk:
    """F consecutive sampled frames of a segment and the N faces on them; never empty of meaning, perhaps of frames."""

    segment: Segment
    video_id: str
    index: int
    is_last: bool
    frame_index: np.ndarray  # (F,) int64
    pts_seconds: np.ndarray  # (F,) float64
    is_decoded: np.ndarray  # (F,) bool
    signatures: np.ndarray  # (F, SIGNATURE_BYTES) uint8, zeros where there is no picture
    face_frame: np.ndarray  # (N,) int64: position in the frames
    boxes: np.ndarray  # (N, 4) float32
    scores: np.ndarray  # (N,) float32
    landmarks: np.ndarray  # (N, 5, 2) float32
    affines: np.ndarray  # (N, 2, 3) float64
    crops: np.ndarray  # (N, S, S, 3) uint8
    seconds: float  # spent on reading it
    num_damaged: int = 0
    status: str = "ok"
    error: str | None = None


def failed_chunk(segment: Segment, video_id: str, index: int, status: str, error: str, side_px: int) -> Chunk:
    """Stands for the rest of a segment, behind the `index` chunks that it gave before."""
    return _Gathering(side_px).chunk(segment, video_id, index, is_last=True, status=status, error=error)


class FaceReader:
    """Plans videos and reads their segments: decode, find faces, cut them out. Lives in a process of its own."""

    segment_seconds = SEGMENT_SECONDS

    def __init__(self, looking: Looking) -> None:
        from fcvideo.faces.detect import FaceDetector

        self.looking = looking
        self.tick: Callable[[float], None] = lambda pts_seconds: None  # told after every frame, and while skipping
        self._pts_seconds = 0.0
        on_packet(lambda: self.tick(self._pts_seconds))
        self.detect = FaceDetector(
            min_face_px=looking.min_face_px, score_threshold=looking.score_threshold, scales=looking.scales
        )

    def plan(self, source: Source, known: Edition | None = None) -> VideoPlan:
        """A video that is still the known one is left at that: its plan has no segments."""
        video_id, info = None, None
        try:
            source = with_kind(source)
            if known is not None and is_unchanged(source, known, lambda: self.tick(0.0)):
                return VideoPlan(source, known.video_id, None, ())
            video_id, modified_seconds, content_hash = edition(source, lambda: self.tick(0.0))
            info = replace(probe(source), modified_seconds=modified_seconds, content_hash=content_hash)
            looking = self.looking
            segments = plan_segments(source, self.segment_seconds, looking.start_seconds, looking.duration_seconds)
        except VideoError as error:
            return VideoPlan(source, video_id, info, (), error.status, str(error))
        except Exception as error:
            return VideoPlan(source, video_id, info, (), "error", describe_error(error))
        return VideoPlan(source, video_id, info, tuple(segments), *_completeness(info, segments))

    def read(self, segment: Segment, video_id: str) -> Iterator[Chunk]:
        """At least one chunk; whatever goes wrong with the video is told in the last one."""
        gathering, index = _Gathering(self.looking.side_px), 0
        self._pts_seconds = float((segment.start_pts or 0) * segment.time_base)
        status, error = "ok", None
        try:
            for frame in self.frames(segment):
                if gathering.is_full:
                    yield gathering.chunk(segment, video_id, index, is_last=False)
                    gathering, index = _Gathering(self.looking.side_px), index + 1
                self._look(frame, gathering)
                self._pts_seconds = frame.pts_seconds
                self.tick(frame.pts_seconds)
        except VideoError as failure:
            status, error = failure.status, str(failure)
        except Exception as failure:
            status, error = "error", describe_error(failure)
        yield gathering.chunk(segment, video_id, index, is_last=True, status=status, error=error)

    def frames(self, segment: Segment) -> Iterator[Frame]:
        from fcvideo.video.read import read_frames

        return read_frames(segment, self.looking.fps)

    def _look(self, frame: Frame, gathering: _Gathering) -> None:
        gathering.add_frame(frame)
        if frame.image is None:
            return
        faces = self.detect([frame.image])[0]
        side_px, framing = self.looking.side_px, self.looking.framing
        for box, score, landmarks in zip(faces.boxes, faces.scores, faces.landmarks, strict=True):
            affine = crop_affine(box, side_px, framing)
            gathering.add_face(box, score, landmarks, affine, crop_face(frame.image, affine, side_px))


def _completeness(info: VideoInfo, segments: list[Segment]) -> tuple[str, str | None]:
    """Status and error of a plan: a file that ends before the frames that its header promises is damaged, and so is a
    recording whose program table names other streams from some moment on. Other streams are named in any case.

    Frames that a header counts and the file leaves out in its middle (an AVI's empty ones) are no missing end.
    """
    if not segments or segments[0].last_pts is None:
        return "ok", info.other_streams
    found, promised = segments[0].num_packets, info.num_frames_from_header
    last_seconds = float(segments[0].last_pts * segments[0].time_base)
    if found is not None and promised and found < promised:
        duration = info.duration_seconds
        if not duration or last_seconds + 2 * duration / promised < (info.start_seconds or 0.0) + duration:
            return "damaged", f"found {found} of the {promised} frames that its header promises (cut off?)"
    share_read = (segments[0].last_position or info.size_bytes) / max(info.size_bytes, 1)
    if info.container == "mpegts" and info.other_streams and share_read < LATE_STREAM_SHARE:
        return "damaged", f"{info.other_streams}, which begins where that ends, at {share_read:.0%} of the file"
    return "ok", info.other_streams


class _Gathering:
    """A chunk while it grows."""

    def __init__(self, side_px: int) -> None:
        self._side_px = side_px
        self._started = time.monotonic()
        self._frames: list[tuple[int, float, bool]] = []
        self._signatures: list[np.ndarray] = []
        self._num_damaged = 0
        self._face_frame: list[int] = []
        self._boxes: list[np.ndarray] = []
        self._scores: list[float] = []
        self._landmarks: list[np.ndarray] = []
        self._affines: list[np.ndarray] = []
        self._crops: list[np.ndarray] = []

    @property
    def is_full(self) -> bool:
        return len(self._frames) >= CHUNK_FRAMES or len(self._crops) >= CHUNK_FACES

    def add_frame(self, frame: Frame) -> None:
        self._frames.append((frame.frame_index, frame.pts_seconds, frame.image is not None))
        no_picture = np.zeros(SIGNATURE_BYTES, np.uint8)
        self._signatures.append(no_picture if frame.image is None else signature(frame.image))
        self._num_damaged += frame.is_damaged

    def add_face(
        self, box: np.ndarray, score: float, landmarks: np.ndarray, affine: np.ndarray, crop: np.ndarray
    ) -> None:
        """A face of the last frame added."""
        self._face_frame.append(len(self._frames) - 1)
        self._boxes.append(box)
        self._scores.append(score)
        self._landmarks.append(landmarks)
        self._affines.append(affine)
        self._crops.append(crop)

    def chunk(
        self,
        segment: Segment,
        video_id: str,
        index: int,
        *,
        is_last: bool,
        status: str = "ok",
        error: str | None = None,
    ) -> Chunk:
        side = self._side_px
        return Chunk(
            segment=segment,
            video_id=video_id,
            index=index,
            is_last=is_last,
            frame_index=np.array([frame[0] for frame in self._frames], np.int64),
            pts_seconds=np.array([frame[1] for frame in self._frames], np.float64),
            is_decoded=np.array([frame[2] for frame in self._frames], bool),
            signatures=np.array(self._signatures, np.uint8).reshape(-1, SIGNATURE_BYTES),
            face_frame=np.array(self._face_frame, np.int64),
            boxes=np.array(self._boxes, np.float32).reshape(-1, 4),
            scores=np.array(self._scores, np.float32),
            landmarks=np.array(self._landmarks, np.float32).reshape(-1, 5, 2),
            affines=np.array(self._affines, np.float64).reshape(-1, 2, 3),
            crops=np.array(self._crops, np.uint8).reshape(-1, side, side, 3),
            seconds=time.monotonic() - self._started,
            num_damaged=self._num_damaged,
            status=status,
            error=error,
        )
