"""Frames at given times, for training pairs and previews: decord where it is right, PyAV for all other files.

decord decodes ahead without bound, knows neither edit lists nor start times, and can hang or crash; so it runs in a
child process that may be killed, on plain files only, and after its count, times and colors were seen to be PyAV's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from importlib.util import find_spec
from multiprocessing.connection import Connection, Pipe
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fcvideo.video.container import open_video
from fcvideo.video.inputs import Source
from fcvideo.video.probe import VideoInfo, probe
from fcvideo.video.read import Frame, read_frames, read_shown
from fcvideo.video.segments import PacketIndex, Segment, index_packets, plan_segments, to_pts
from fcvideo.video.tone import wide_colors

_CODECS = frozenset(("h264", "hevc"))
_MAX_STEP_ERROR = Fraction(1, 100)  # of the mean step between frames, beside one unit of rounding
_MAX_TIME_ERROR_SECONDS = 1e-3  # decord counts in float32
_MAX_COLOR_ERROR = 2.0  # mean grey levels; the same frame one place off differs by more in moving pictures
_CHILD = "import sys; from fcvideo.video.random_access import serve; serve(int(sys.argv[1]))"


class FrameGrabber:
    """Random access to one video's frames. Close it, or use it in a `with`. Errors: VideoError.

    `timeout_seconds` is what a child may take for one answer; then it is killed and PyAV reads on.
    """

    def __init__(self, path: str, timeout_seconds: float = 30.0) -> None:
        self.timeout_seconds = timeout_seconds
        self._source = Source(str(path), str(path), "video")
        self._segments = plan_segments(self._source, segment_seconds=0.0)  # one to a key frame
        self._time_base = self._segments[0].time_base
        self._child: _Child | None = None
        self._shown_pts: npt.NDArray[np.int64] = np.empty(0, np.int64)
        index = index_packets(self._source).packets
        if index is not None and _is_plain(self._source, index, self._time_base, probe(self._source)):
            self._shown_pts = np.sort(index.pts)
            reference = _first_image(self._segments[0])
            self._child = _Child.start(self._source.path, timeout_seconds)
            if self._child is not None and not self._agrees(self._child, reference):
                self._stop_child()

    @property
    def route(self) -> str:
        """Who reads now: 'decord' or 'pyav'."""
        return "pyav" if self._child is None else "decord"

    @property
    def child_pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    def frames(self, times_seconds: Sequence[float]) -> list[Frame]:
        """For each time the frame on the screen then; before the first frame, the first. `image` is never None."""
        wanted = [to_pts(seconds, self._time_base) for seconds in times_seconds]
        if self._child is not None:
            ranks = np.maximum(np.searchsorted(self._shown_pts, wanted, side="right") - 1, 0)
            images = self._child.grab(ranks.tolist(), self.timeout_seconds)
            if images is not None:
                return [self._frame(int(rank), image) for rank, image in zip(ranks, images, strict=True)]
            self._stop_child()
        return self._frames_by_pyav(wanted)

    def close(self) -> None:
        self._stop_child()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _frame(self, rank: int, image: npt.NDArray[np.uint8]) -> Frame:
        pts = int(self._shown_pts[rank])
        next_pts = int(self._shown_pts[rank + 1]) if rank + 1 < len(self._shown_pts) else pts
        return Frame(rank, pts, next_pts - pts, float(pts * self._time_base), image, is_damaged=False)

    def _frames_by_pyav(self, wanted: list[int]) -> list[Frame]:
        order = sorted(range(len(wanted)), key=wanted.__getitem__)
        found: dict[int, Frame] = {}
        by_segment: dict[int, list[int]] = {}
        for i in order:
            by_segment.setdefault(self._segment_at(wanted[i]), []).append(i)
        for segment_index, members in by_segment.items():
            times = [wanted[i] for i in members]
            shown = list(read_shown(self._segments[segment_index], times))
            while not shown and segment_index:  # nothing there can be decoded: what was on the screen before
                segment_index -= 1
                shown = list(read_shown(self._segments[segment_index], times))
            found.update(zip(members, shown, strict=True))
        return [found[i] for i in range(len(wanted))]

    def _segment_at(self, pts: int) -> int:
        starts = [segment.start_pts for segment in self._segments if segment.start_pts is not None]
        return max(int(np.searchsorted(starts, pts, side="right")) - 1, 0)

    def _agrees(self, child: _Child, reference: npt.NDArray[np.uint8] | None) -> bool:
        """Whether decord sees the frames that PyAV sees: count, first and last time, first picture."""
        shown, base = self._shown_pts, self._time_base
        times = [float(int(shown[0]) * base), float(int(shown[-1]) * base)]
        if child.num_frames != len(shown):
            return False
        if not np.allclose([child.first_seconds, child.last_seconds], times, rtol=0, atol=_MAX_TIME_ERROR_SECONDS):
            return False
        images = child.grab([0], self.timeout_seconds)
        if images is None or reference is None or images[0].shape != reference.shape:
            return False
        return float(np.abs(images[0].astype(np.int16) - reference).mean()) <= _MAX_COLOR_ERROR

    def _stop_child(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None


def _is_plain(source: Source, index: PacketIndex, time_base: Fraction, info: VideoInfo) -> bool:
    """A local upright h264 or hevc mp4 in BT.709, of constant rate from 0, with closed groups of pictures."""
    is_mp4 = info.container.startswith("mov") and info.codec in _CODECS
    if source.scheme is not None or not is_mp4 or info.rotation_deg or info.is_mirrored:
        return False
    with open_video(source) as (_, stream):
        if wide_colors(stream.codec_context) is not None:
            return False
    if info.num_frames_from_header != len(index.pts) or len(index.pts) < 2:
        return False
    steps = np.diff(np.sort(index.pts))
    has_constant_rate = np.abs(steps - steps.mean()).max() <= 1 + float(_MAX_STEP_ERROR) * steps.mean()
    earliest_after = np.minimum.accumulate(index.pts[::-1])[::-1]
    has_closed_groups = bool((earliest_after >= index.pts)[index.is_keyframe].all())
    return bool(has_constant_rate) and has_closed_groups


def _first_image(segment: Segment) -> npt.NDArray[np.uint8] | None:
    frames = read_frames(segment)
    try:
        return next(frames).image
    except StopIteration:
        return None


class _Child:
    """A Python process with decord and one open file. None of its deaths harms the parent."""

    def __init__(self, process: subprocess.Popen[bytes], connection: Connection) -> None:
        self._process, self._connection = process, connection
        self.pid = process.pid
        self.num_frames = 0
        self.first_seconds = self.last_seconds = float("nan")

    @classmethod
    def start(cls, path: str, timeout_seconds: float) -> _Child | None:
        """None if decord is not there or cannot open the file in time."""
        # Not multiprocessing.Process: it runs the parent's main script again, and daemons may not start one.
        if os.name != "posix" or find_spec("decord") is None:  # a descriptor is passed on
            return None
        ours, theirs = Pipe()
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        child = cls(process, ours)
        opened = child._ask(path, timeout_seconds)
        if opened is None:
            child.kill()
            return None
        child.num_frames, child.first_seconds, child.last_seconds = opened
        return child

    def grab(self, ranks: list[int], timeout_seconds: float) -> list[npt.NDArray[np.uint8]] | None:
        """(height, width, 3) uint8 RGB each; None if the child failed, died or took too long."""
        return self._ask(ranks, timeout_seconds)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _ask(self, request: object, timeout_seconds: float) -> Any:
        try:
            self._connection.send(request)
            return self._connection.recv() if self._connection.poll(timeout_seconds) else None
        except (OSError, EOFError):
            return None


def serve(descriptor: int) -> None:
    """The child's loop: first a path, then lists of frame numbers; None for what fails. Ends with the parent."""
    import decord

    connection = Connection(descriptor)
    reader = decord.VideoReader(connection.recv(), ctx=decord.cpu(0), num_threads=1)
    last = len(reader) - 1
    connection.send((len(reader), float(reader.get_frame_timestamp(0)[0]), float(reader.get_frame_timestamp(last)[0])))
    while True:
        try:
            ranks = connection.recv()
        except EOFError:
            return
        connection.send(list(reader.get_batch(ranks).asnumpy()))
