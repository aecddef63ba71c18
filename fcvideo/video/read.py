"""Reads the frames of one segment: upright RGB, exact times, sampled by time stamp, on past damage."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import av.error
import numpy as np
import numpy.typing as npt

from fcvideo.errors import VideoError
from fcvideo.video.container import demux, open_video, seek_to_key
from fcvideo.video.decode import Picture, decode_in_order, decode_indexed, decode_untimed
from fcvideo.video.inputs import Source
from fcvideo.video.picture import RgbConverter
from fcvideo.video.segments import Key, Segment
from fcvideo.video.still import read_still


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame in display order. `image` is (height, width, 3) uint8 RGB, upright; None if it could not be decoded.

    `pts` and `duration` count in the segment's `time_base`; a duration of 0 is one that the file does not give.
    `is_damaged`: in a stretch known to be corrupt. `is_time_repaired`: the file gave no usable time for it.
    """

    frame_index: int
    pts: int
    duration: int
    pts_seconds: float
    image: npt.NDArray[np.uint8] | None
    is_damaged: bool
    is_time_repaired: bool = False


def read_frames(
    segment: Segment, fps: float | None = None, threads: int = 1, is_exact: bool = False
) -> Iterator[Frame]:
    """The segment's frames in display order; with `fps` the first frame of every 1/fps seconds since the video's first.

    Only these are converted to RGB, slower but without a shift of the colors if `is_exact`: for pictures that are
    written again. Memory is bounded by the decoder's own buffer. Errors: VideoError.
    """
    if segment.source.is_image:
        yield Frame(0, 0, 0, 0.0, read_still(segment.source.path), is_damaged=False)
        return
    convert = RgbConverter(is_exact, segment.crop)
    sampler = _Sampler(segment, fps)
    for frame_index, picture in _pictures(segment, threads):
        is_sampled = sampler.takes(picture.pts)  # which must see the frames outside the segment, too
        if segment.end_pts is not None and picture.pts >= segment.end_pts:
            return
        if is_sampled and (segment.start_pts is None or picture.pts >= segment.start_pts):
            yield _frame(segment, frame_index, picture, convert)


def read_shown(segment: Segment, times_pts: Sequence[int], threads: int = 1) -> Iterator[Frame]:
    """For each time, ascending, the frame that is on the screen then: the last decodable one that is not later.

    A time before the segment's first decodable frame gets that one. Errors: VideoError.
    """
    convert = RgbConverter(crop=segment.crop)
    waiting = deque(times_pts)
    current: tuple[int, Picture] | None = None
    for frame_index, picture in _pictures(segment, threads):
        while waiting and current is not None and picture.pts > waiting[0]:
            waiting.popleft()
            yield _frame(segment, *current, convert)
        is_past = segment.end_pts is not None and picture.pts >= segment.end_pts
        if not waiting or (is_past and current is not None):
            break
        if picture.frame is not None:
            current = frame_index, picture
    for _ in waiting:
        if current is not None:
            yield _frame(segment, *current, convert)


def _frame(segment: Segment, frame_index: int, picture: Picture, convert: RgbConverter) -> Frame:
    pts_seconds = float(picture.pts * segment.time_base)
    try:
        image = None if picture.frame is None else convert(picture.frame)
    except av.error.FFmpegError as error:
        raise VideoError("error", f"{segment.source.path}: a picture has no form in RGB ({error})") from error
    duration = 0 if picture.frame is None else max(picture.frame.duration or 0, 0)
    return Frame(frame_index, picture.pts, duration, pts_seconds, image, picture.is_damaged, picture.is_time_repaired)


class _Sampler:
    """Knows whether a frame is the first in its bin; sees every frame in turn, also those outside the segment."""

    def __init__(self, segment: Segment, fps: float | None) -> None:
        # The nearest simple fraction, so that 1/3 given as a float does not lose the frame at 3 s.
        self._bins_per_pts = None if fps is None else Fraction(fps).limit_denominator(100_000) * segment.time_base
        self._first_pts = segment.first_pts
        self._last_bin = None if segment.previous_pts is None else self._bin(segment.previous_pts)

    def takes(self, pts: int) -> bool:
        if self._bins_per_pts is None:
            return True
        if self._first_pts is None:
            self._first_pts = pts
        this_bin = self._bin(pts)
        is_first = this_bin != self._last_bin
        self._last_bin = this_bin
        return is_first

    def _bin(self, pts: int) -> int:
        if self._bins_per_pts is None or self._first_pts is None:
            return 0
        rate = self._bins_per_pts
        return (pts - self._first_pts) * rate.numerator // rate.denominator


def _pictures(segment: Segment, threads: int) -> Iterator[tuple[int, Picture]]:
    """Every frame with its index, from the segment's key frame on or from an earlier one.

    A damaged key frame shows nothing: then reading comes from the key frame before it, or from the beginning.
    """
    keys = [segment.earlier_key]
    if segment.key_pts is not None and segment.key_dts is not None:
        keys.insert(0, Key(segment.key_pts, segment.key_dts, segment.first_frame_index))
    for key in keys:
        if segment.is_indexed and key is not None:
            jumped = _jump(segment.source, key, threads)
            first = next(jumped, None)
            if first is not None and first.pts == key.pts and first.frame is not None:
                yield from enumerate(chain([first], jumped), key.frame_index)
                return
            jumped.close()
    yield from enumerate(_from_beginning(segment, threads))


def _jump(source: Source, key: Key, threads: int) -> Generator[Picture]:
    with open_video(source, threads) as (container, stream):
        packets = seek_to_key(source, container, stream, key.pts, key.dts)
        if packets is not None:
            yield from decode_indexed(packets, key.pts)


def _from_beginning(segment: Segment, threads: int) -> Iterator[Picture]:
    source = segment.source
    num_decoded = 0
    with open_video(source, threads) as (container, stream):
        packets = demux(source, container, stream)
        if segment.is_indexed:
            assert segment.first_pts is not None
            pictures = decode_indexed(packets, segment.first_pts)
        elif segment.has_presentation_times:
            pictures = decode_in_order(packets, stream)
        else:
            pictures = decode_untimed(packets, stream)
        for picture in pictures:
            num_decoded += picture.frame is not None
            yield picture
    if not num_decoded:
        raise VideoError("no_frames", f"{source.path}: found packets but no picture in them, expected frames")
