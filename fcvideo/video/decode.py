"""Decodes packets into pictures in display order and goes on past damage, for `read` and `probe`.

Three ways: `decode_indexed` where every packet is one frame with its own time stamp, so that a frame that never comes
is noticed; `decode_untimed` where the container stores no presentation times; `decode_in_order` for all other files,
which trusts the decoder's order and repairs what has no time.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fcvideo.video.container import is_flush

# Frames held back while one with an earlier time may still come: after damage the decoder was seen to put out a frame
# one place late; its own buffer holds 16 at most.
_PATIENCE_FRAMES = 8
CLOCK_RESTART_SECONDS = 1  # a larger step back, at a key frame, is a new clock and not disorder


class Picture(NamedTuple):
    """A frame of the video. `frame` is None where the packet gave none."""

    pts: int
    frame: VideoFrame | None
    is_damaged: bool
    is_time_repaired: bool = False


class _Taint:
    """Follows damage in decoding order: from a bad packet to the next key frame everything may be wrong."""

    def __init__(self) -> None:
        self._is_on = False
        self._leading_before: int | None = None

    def see(self, packet: Packet) -> None:
        if packet.is_keyframe:
            # pictures shown before the key frame but decoded after it still refer to the damaged stretch
            self._leading_before = packet.pts if self._is_on else None
            self._is_on = False
        if packet.is_corrupt:
            self._is_on = True

    def hit(self) -> None:
        self._is_on = True

    def covers(self, pts: int | None) -> bool:
        is_leading = self._leading_before is not None and pts is not None and pts < self._leading_before
        return self._is_on or is_leading


def _decode(packet: Packet) -> list[VideoFrame] | None:
    """None for a packet that the decoder rejects."""
    try:
        return packet.decode()
    except (av.error.FFmpegError, MemoryError):
        return None


def _decoded(packets: Iterable[Packet | None], taint: _Taint) -> Iterator[tuple[Packet, list[VideoFrame] | None]]:
    """Packets with their frames, None for one that the decoder rejects; `taint` is told of all damage."""
    for packet in packets:
        if packet is None:
            taint.hit()
            continue
        if not is_flush(packet):
            taint.see(packet)
        frames = _decode(packet)
        if frames is None:
            taint.hit()
        yield packet, frames


class _DisplayOrder:
    """Frames sorted by time stamp; a packet whose frame has not come when later ones have is given up as lost."""

    def __init__(self) -> None:
        self._due: list[int] = []
        self._ready: list[tuple[int, int, VideoFrame]] = []  # (time stamp, running number, frame)
        self._num_added = 0
        self._tainted: set[int] = set()

    def expect(self, pts: int, is_tainted: bool) -> None:
        heapq.heappush(self._due, pts)
        if is_tainted:
            self._tainted.add(pts)

    def taint(self, pts: int) -> None:
        self._tainted.add(pts)

    def add(self, frame: VideoFrame) -> None:
        # a frame of a time that no packet has, or one given up already, has no place in the index
        if frame.pts is not None and self._due and frame.pts >= self._due[0]:
            heapq.heappush(self._ready, (frame.pts, self._num_added, frame))
            self._num_added += 1

    def take(self, is_end: bool = False) -> Iterator[Picture]:
        while self._ready and self._due:
            due = self._due[0]
            pts, _, frame = self._ready[0]
            if pts < due:  # not in the index
                heapq.heappop(self._ready)
                continue
            if pts > due and len(self._ready) <= _PATIENCE_FRAMES and not is_end:
                return
            heapq.heappop(self._due)
            is_tainted = due in self._tainted
            self._tainted.discard(due)
            if pts == due:
                heapq.heappop(self._ready)
                yield Picture(due, frame, is_tainted or frame.is_corrupt)
            else:
                yield Picture(due, None, True)
        while is_end and self._due:
            yield Picture(heapq.heappop(self._due), None, True)


def decode_indexed(packets: Iterable[Packet | None], first_pts: int) -> Iterator[Picture]:
    """Every frame from `first_pts` on, strictly increasing in time, of packets that each are one frame."""
    order, taint = _DisplayOrder(), _Taint()
    for packet in packets:
        if packet is None:
            taint.hit()
            continue
        if not is_flush(packet):
            taint.see(packet)
            if not packet.is_discard and packet.pts is not None and packet.pts >= first_pts:
                order.expect(packet.pts, taint.covers(packet.pts))
        frames = _decode(packet)
        if frames is None:
            taint.hit()
            if packet.pts is not None:
                order.taint(packet.pts)
            continue
        for frame in frames:
            order.add(frame)
        yield from order.take()
    yield from order.take(is_end=True)


def decode_in_order(packets: Iterable[Packet | None], stream: VideoStream) -> Iterator[Picture]:
    """Every frame as the decoder puts them out; a packet that it rejects is a Picture without a frame."""
    taint, clock = _Taint(), _Clock(stream)
    lost: list[tuple[bool, int]] = []  # (has a time stamp, time stamp)
    for packet, frames in _decoded(packets, taint):
        if frames is None:
            if not packet.is_discard and not is_flush(packet):
                heapq.heappush(lost, (packet.pts is not None, packet.pts or 0))
            continue
        for frame in frames:
            while lost and (frame.pts is None or not lost[0][0] or lost[0][1] < frame.pts):
                yield _lost_picture(heapq.heappop(lost), clock)
            pts, is_repaired = clock.read(frame.pts, frame.key_frame)
            yield Picture(pts, frame, taint.covers(pts) or frame.is_corrupt, is_repaired)
    while lost:
        yield _lost_picture(heapq.heappop(lost), clock)


def decode_untimed(packets: Iterable[Packet | None], stream: VideoStream) -> Iterator[Picture]:
    """Every frame as the decoder puts them out, of a container that has decoding times alone (AVI, some ASF and MXF).

    What FFmpeg guesses for presentation times is in disorder there. The decoder's order is right, and the n-th frame
    is shown when the n-th packet was due, later by what the first packet waits.
    """
    taint, clock = _Taint(), _Clock(stream)
    due: deque[int | None] = deque()
    delay: int | None = None
    for packet, frames in _decoded(packets, taint):
        is_shown = not packet.is_discard and not is_flush(packet)
        if delay is None and packet.pts is not None and packet.dts is not None:
            delay = packet.pts - packet.dts
        if is_shown:
            due.append(None if packet.dts is None else packet.dts + (delay or 0))
        if frames is None:
            if is_shown:
                pts = due.popleft()
                yield _lost_picture((pts is not None, pts or 0), clock)
            continue
        for frame in frames:
            shown_pts, is_repaired = clock.read(due.popleft() if due else None, frame.key_frame)
            yield Picture(shown_pts, frame, taint.covers(shown_pts) or frame.is_corrupt, is_repaired)


def _lost_picture(lost: tuple[bool, int], clock: _Clock) -> Picture:
    has_pts, given = lost
    pts, is_repaired = clock.read(given if has_pts else None, is_keyframe=False)
    return Picture(pts, None, True, is_repaired)


class _Clock:
    """Makes time stamps strictly increasing, but follows a clock that starts again at a key frame (joined files)."""

    def __init__(self, stream: VideoStream) -> None:
        time_base, rate = stream.time_base, stream.average_rate or stream.guessed_rate
        assert time_base is not None
        self._step = max(1, round(1 / (rate * time_base))) if rate else 1
        self._restart = round(CLOCK_RESTART_SECONDS / time_base)
        self._last: int | None = None

    def read(self, pts: int | None, is_keyframe: bool) -> tuple[int, bool]:
        """The time stamp to use, and whether it is not the file's own."""
        last = self._last
        is_repaired = True
        if pts is None:
            pts = 0 if last is None else last + self._step
        elif last is not None and pts <= last and not (is_keyframe and last - pts >= self._restart):
            pts = last + 1
        else:
            is_repaired = False
        self._last = pts
        return pts, is_repaired
